"""API tokens, sessions that can be listed, robots' credentials that are renewed, and an append-only audit log

Revision: 0004
After: 0002

Every new column may be null or has a default: a server of the release before runs on without knowing them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _audit()
    _sessions()
    _tokens()
    op.add_column("robots", sa.Column("next_token_hash", sa.LargeBinary(), nullable=True))
    op.create_unique_constraint(op.f("uq_robots_next_token_hash"), "robots", ["next_token_hash"])


def _audit() -> None:
    for name in ("via", "address", "request_id"):
        op.add_column("audit_log", sa.Column(name, sa.String(), nullable=True))
    op.create_index("ix_audit_log_actor_id", "audit_log", ["actor", "id"], unique=False)
    op.create_index("ix_audit_log_action_id", "audit_log", ["action", "id"], unique=False)
    op.create_index("ix_audit_log_at", "audit_log", ["at"], unique=False)
    op.execute(
        """
        CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'audit_log is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only()
        """
    )
    # ALWAYS: an ordinary trigger sleeps while session_replication_role is `replica`.
    op.execute("ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_is_append_only")
    op.execute("REVOKE UPDATE, DELETE, TRUNCATE ON audit_log FROM PUBLIC")


def _sessions() -> None:
    op.add_column("login_sessions", sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False))
    op.create_unique_constraint(op.f("uq_login_sessions_id"), "login_sessions", ["id"])
    op.add_column("login_sessions", sa.Column("address", sa.String(), server_default="", nullable=False))
    op.add_column("login_sessions", sa.Column("agent", sa.String(), server_default="", nullable=False))
    op.add_column("login_sessions", sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True))


def _tokens() -> None:
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_api_tokens_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_api_tokens_token_hash")),
    )
    op.create_index(op.f("ix_api_tokens_user_id"), "api_tokens", ["user_id"], unique=False)
