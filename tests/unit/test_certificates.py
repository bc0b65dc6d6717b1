"""The certificates of a local cluster."""

from __future__ import annotations

import datetime
import ipaddress

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from aether_cli.local import certificates

NOW = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)
CA = certificates.new_ca("aether", now=NOW)


def read(pair: certificates.Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate)


def test_server_certificate_is_valid_for_its_hosts_only() -> None:
    leaf = read(certificates.issue(certificates.IDENTITIES["apiserver"], CA, now=NOW))
    policy = PolicyBuilder().store(Store([read(CA)])).time(NOW)
    for host in ("127.0.0.1", "10.96.0.1"):
        policy.build_server_verifier(x509.IPAddress(ipaddress.ip_address(host))).verify(leaf, [])
    policy.build_server_verifier(x509.DNSName("kubernetes.default.svc")).verify(leaf, [])
    with pytest.raises(x509.verification.VerificationError):
        policy.build_server_verifier(x509.DNSName("elsewhere.example")).verify(leaf, [])


def test_certificate_is_not_valid_under_the_other_ca() -> None:
    other = certificates.new_ca("aether-etcd", now=NOW)
    leaf = read(certificates.issue(certificates.IDENTITIES["apiserver"], CA, now=NOW))
    verifier = PolicyBuilder().store(Store([read(other)])).time(NOW).build_server_verifier(x509.DNSName("localhost"))
    with pytest.raises(x509.verification.VerificationError):
        verifier.verify(leaf, [])


def test_client_certificate_has_its_name_and_serves_nothing() -> None:
    leaf = read(certificates.issue(certificates.IDENTITIES["admin"], CA, now=NOW))
    assert [a.value for a in leaf.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["system:masters"]
    uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_only_etcd_has_the_etcd_ca() -> None:
    vouched = {name for name, identity in certificates.IDENTITIES.items() if identity.etcd_ca}
    assert vouched == {"etcd", "apiserver-etcd"}


def test_leaf_never_outlives_its_ca_and_tolerates_slow_clocks() -> None:
    late = NOW + certificates.CA_LIFETIME - datetime.timedelta(days=1)
    leaf = read(certificates.issue(certificates.IDENTITIES["admin"], CA, now=late))
    assert leaf.not_valid_after_utc == read(CA).not_valid_after_utc
    assert leaf.not_valid_before_utc < late


def test_a_key_never_shows_in_a_repr() -> None:
    assert "KEY" not in repr(CA)
