"""Saved views, robots' changes and notes, and who is being watched

Revision: 0008
After: 0007

Tables of their own, so a server of the release before runs on. Changes are written by a trigger on the heartbeat's row:
whatever stores heartbeats, one at a time or many at once, notes them, and a heartbeat that changes nothing costs no
statement. Between two states of an ordinary day (an episode ends, the next begins) nothing is noted.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_FUNCTION = """
CREATE FUNCTION note_robot_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    ordinary text[] := ARRAY['running', 'resetting', 'starting', 'parking', 'connecting'];
    before jsonb := CASE WHEN TG_OP = 'UPDATE' THEN OLD.heartbeat END;
    state_before text := CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END;
BEGIN
    INSERT INTO robot_changes (robot_id, what, old, new)
    SELECT NEW.robot_id, said.what, coalesce(nullif(said.old, ''), known.new), said.new
    FROM (VALUES
        ('calibration', before->>'calibration_fingerprint', NEW.heartbeat->>'calibration_fingerprint'),
        ('agent', before->>'agent_version', NEW.heartbeat->>'agent_version'),
        ('policy', (before->'policy'->>'repo') || '@' || (before->'policy'->>'commit'),
                   (NEW.heartbeat->'policy'->>'repo') || '@' || (NEW.heartbeat->'policy'->>'commit')),
        ('state', CASE WHEN state_before = ANY (ordinary) THEN 'running' ELSE state_before END,
                  CASE WHEN NEW.state = ANY (ordinary) THEN 'running' ELSE NEW.state END)
    ) AS said (what, old, new)
    -- What was noted last: a heartbeat that leaves something out (control is down) is no change, nor is its return.
    LEFT JOIN LATERAL (
        SELECT c.new FROM robot_changes c
        WHERE c.robot_id = NEW.robot_id AND c.what = said.what ORDER BY c.id DESC LIMIT 1
    ) AS known ON coalesce(said.old, '') = ''
    WHERE coalesce(said.new, '') <> '' AND said.new IS DISTINCT FROM coalesce(nullif(said.old, ''), known.new);
    RETURN NULL;
END $$
"""
_SAID = (
    "{row}.state, {row}.heartbeat->'calibration_fingerprint', {row}.heartbeat->'agent_version', "
    "{row}.heartbeat->'policy'"
)


def upgrade() -> None:
    # The foreign keys and triggers take a lock on their tables for a moment; behind a long one nothing may queue up.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.create_table(
        "saved_views",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("page", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("query", sa.String(), nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_saved_views_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_views")),
        sa.UniqueConstraint("user_id", "page", "name", name="uq_saved_views_name"),
    )
    op.create_table(
        "robot_notes",
        sa.Column("robot_id", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("written_by", sa.String(), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["robot_id"], ["robots.id"], name=op.f("fk_robot_notes_robot_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("robot_id", name=op.f("pk_robot_notes")),
    )
    op.create_table(
        "robot_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("robot_id", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("old", sa.String(), nullable=True),
        sa.Column("new", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["robot_id"], ["robots.id"], name=op.f("fk_robot_changes_robot_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_robot_changes")),
    )
    op.create_index("ix_robot_changes_robot_id_what_id", "robot_changes", ["robot_id", "what", "id"])
    op.create_index("ix_robot_changes_robot_id_id", "robot_changes", ["robot_id", "id"])
    op.create_table(
        "robot_watches",
        sa.Column("robot_id", sa.String(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["robot_id"], ["robots.id"], name=op.f("fk_robot_watches_robot_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("robot_id", name=op.f("pk_robot_watches")),
    )
    op.execute(_FUNCTION)
    op.execute(
        "CREATE TRIGGER note_first AFTER INSERT ON robot_status FOR EACH ROW EXECUTE FUNCTION note_robot_changes()"
    )
    op.execute(
        "CREATE TRIGGER note_changes AFTER UPDATE ON robot_status FOR EACH ROW "
        f"WHEN (({_SAID.format(row='OLD')}) IS DISTINCT FROM ({_SAID.format(row='NEW')})) "
        "EXECUTE FUNCTION note_robot_changes()"
    )
