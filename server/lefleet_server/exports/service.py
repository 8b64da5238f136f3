"""An episode's export for whoever may see the episode."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.analysis.models import EpisodeAnalysis
from lefleet_server.episodes.models import Episode
from lefleet_server.episodes.service import get_episode, its_file
from lefleet_server.exports import Format
from lefleet_server.exports.exporter import Made
from lefleet_server.problems import Conflict
from lefleet_server.services import Services


async def exportable(session: AsyncSession, episode_id: str) -> Episode:
    """Raises NotFound or Gone, and Conflict with the reason for one whose file was found to be invalid."""
    episode = await get_episode(session, episode_id)
    if episode.quarantined:
        found = await session.get(EpisodeAnalysis, episode_id)
        reason = found.reason if found else "its file is invalid"
        raise Conflict(f"episode {episode_id} is quarantined ({reason}), so nothing is made of it; take its HDF5 file")
    return episode


@asynccontextmanager
async def made(services: Services, episode: Episode, kind: Format) -> AsyncIterator[Made]:
    """The file, until the block ends; raises as `Exporter.made` does, and NotFound when the episode's file is lost."""
    with its_file(episode):
        async with services.exports.made(episode, kind) as found:
            yield found
