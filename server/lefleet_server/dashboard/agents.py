"""What a browser calls itself, as people say it. Pure; its own word, so nothing more than a hint."""

# Order counts: Edge and Opera also say Chrome, Chrome also says Safari.
_PROGRAMS = (
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def name_of(agent: str) -> str:
    """`Firefox on Linux`; a program that is no browser by the first word it says."""
    program = next((name for sign, name in _PROGRAMS if sign in agent), None)
    if program is None:
        return agent.partition(" ")[0].partition("/")[0][:40] or "Unknown program"
    system = next((name for sign, name in _SYSTEMS if sign in agent), None)
    return f"{program} on {system}" if system else program
