-- The table that tidegate.yaml reads, and a user that may only read it.
-- Run it once, as the owner of the database: psql billing -f plans.sql

CREATE TABLE plans (consumer text PRIMARY KEY, tier text NOT NULL, tenant text);

-- Tells every gateway whose plan has changed.
CREATE FUNCTION tell_tidegate() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    PERFORM pg_notify('plans_changed', coalesce(NEW.consumer, OLD.consumer));
    RETURN NULL;
  END $$;
CREATE TRIGGER tell_tidegate AFTER INSERT OR UPDATE OR DELETE ON plans
  FOR EACH ROW EXECUTE FUNCTION tell_tidegate();

CREATE ROLE tidegate_reader LOGIN PASSWORD 'change-me';
GRANT SELECT ON plans TO tidegate_reader;
ALTER ROLE tidegate_reader SET statement_timeout = '1s';

INSERT INTO plans VALUES ('acme', 'pro');
