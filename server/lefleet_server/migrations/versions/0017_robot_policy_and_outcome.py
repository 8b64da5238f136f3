"""Episodes by robot, policy and outcome together, and labelled ones by outcome

Revision: 0017
After: 0016

A server of the release before runs on. The indexes are built while it writes; cut off in the middle, the migration is
run again from its beginning.
"""

from alembic import op

from lefleet_server.migrations.indexes import build

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_episodes_robot_policy_result_started": "(robot_id, policy_repo, result, started_at, id)",
    "ix_episodes_result_labelled": "(result, started_at, id) WHERE label_outcome IS NOT NULL",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # An index that is built concurrently waits for every transaction that is older; nobody waits for it.
        op.execute("SET lock_timeout = 0")
        op.execute("SET statement_timeout = 0")
        for name, what in INDEXES.items():
            build(name, what)
        op.execute("SET lock_timeout = '5s'")
