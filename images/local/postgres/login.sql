-- The Secret's login, its database and pg_partman; run at every start, before clients can connect.
\set ON_ERROR_STOP on
-- A failing statement must not put the password into the log.
SET log_min_error_statement = panic;
SET log_statement = none;
SET client_min_messages = warning;
\set username `cat /credentials/username`
\set password `cat /credentials/password`
SELECT format('CREATE ROLE %I', :'username')
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'username') \gexec
ALTER ROLE :"username" LOGIN CREATEROLE NOSUPERUSER NOCREATEDB NOREPLICATION NOBYPASSRLS PASSWORD :'password';
SELECT format('CREATE DATABASE aether OWNER %I', :'username')
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'aether') \gexec
ALTER DATABASE aether OWNER TO :"username";
\connect aether
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS partman;
CREATE EXTENSION IF NOT EXISTS pg_partman SCHEMA partman;
-- The data may be older than the image.
ALTER EXTENSION pg_partman UPDATE;
GRANT ALL ON SCHEMA partman TO :"username";
GRANT ALL ON ALL TABLES IN SCHEMA partman TO :"username";
GRANT ALL ON ALL SEQUENCES IN SCHEMA partman TO :"username";
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA partman TO :"username";
