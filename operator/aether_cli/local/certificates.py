"""The certificates of a local cluster: two CAs, and one certificate for each component's identity. No I/O.

Every component authenticates with a client certificate: there is no token that a log could show.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aether_cli.local import networks

if TYPE_CHECKING:
    from collections.abc import Mapping

CA_LIFETIME: Final = datetime.timedelta(days=3650)
LEAF_LIFETIME: Final = datetime.timedelta(days=365)
# Certificates are valid from a little before now: the clock may be set back later.
CLOCK_SKEW: Final = datetime.timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its private key, both PEM. The repr shows neither."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Pair(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom a certificate identifies: user and group for clients' RBAC, and host names if it is a server's, too."""

    user: str
    group: str = ""
    hosts: tuple[str, ...] = ()
    etcd_ca: bool = False  # issued by etcd's CA, which only etcd and the API server trust


LOCAL: Final = ("localhost", "127.0.0.1")
IDENTITIES: Final[Mapping[str, Identity]] = {
    "admin": Identity(user="aether-admin", group="system:masters"),
    "apiserver": Identity(
        user="kube-apiserver",
        hosts=(
            *LOCAL,
            networks.NODE,
            networks.API_SERVICE,
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            f"kubernetes.default.svc.{networks.DOMAIN}",
        ),
    ),
    "apiserver-kubelet": Identity(user="kube-apiserver-kubelet-client", group="aether:kubelet-clients"),
    "controller-manager": Identity(user="system:kube-controller-manager", hosts=LOCAL),
    "scheduler": Identity(user="system:kube-scheduler", hosts=LOCAL),
    "kubelet": Identity(
        user=f"system:node:{networks.NODE_NAME}", group="system:nodes", hosts=(networks.NODE_NAME, networks.NODE)
    ),
    "kube-proxy": Identity(user="system:kube-proxy"),
    "coredns": Identity(user="aether:coredns"),
    "volumes": Identity(user="aether:volumes"),
    "kwok": Identity(user="aether:kwok", group="system:masters"),
    "etcd": Identity(user="etcd", hosts=LOCAL, etcd_ca=True),
    "apiserver-etcd": Identity(user="kube-apiserver-etcd-client", etcd_ca=True),
}


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def new_ca(common_name: str, *, now: datetime.datetime) -> Pair:
    """A new self-signed CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate=certificate.public_bytes(serialization.Encoding.PEM), key=_pem(key))


def issue(identity: Identity, issuer: Pair, *, now: datetime.datetime) -> Pair:
    """Issue a certificate: for client authentication, and for server authentication if the identity has hosts."""
    issuing = x509.load_pem_x509_certificate(issuer.certificate)
    issuing_key = serialization.load_pem_private_key(issuer.key, password=None)
    if not isinstance(issuing_key, ec.EllipticCurvePrivateKey):
        raise TypeError("the CA's key is not an elliptic-curve key")
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, identity.user)]
    if identity.group:
        names.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.group))
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if identity.hosts else [])]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(issuing.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(min(now + LEAF_LIFETIME, issuing.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing_key.public_key()), critical=False)
    )
    if identity.hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(h) for h in identity.hosts]), critical=False)
    certificate = builder.sign(issuing_key, hashes.SHA256())
    return Pair(certificate=certificate.public_bytes(serialization.Encoding.PEM), key=_pem(key))


def signing_key() -> Pair:
    """The key pair that signs service-account tokens; `certificate` is the public key."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Pair(certificate=public, key=_pem(key))


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
