-- name: revision
-- A process serves only the schema that it was written for.
SELECT version_num FROM public.alembic_version;
