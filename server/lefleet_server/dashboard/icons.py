"""Line drawings of 24 by 24, in the colour of the text around them."""

ICONS = {
    "fleet": (
        '<rect x="4" y="4" width="7" height="7" rx="2"/><rect x="13" y="4" width="7" height="7" rx="2"/>'
        '<rect x="4" y="13" width="7" height="7" rx="2"/>'
        '<rect x="13" y="13" width="7" height="7" rx="2"/>'
    ),
    "episodes": '<rect x="3.5" y="5" width="17" height="14" rx="3"/><path d="M10.5 9.2v5.6l4.5-2.8z"/>',
    "storage": (
        '<ellipse cx="12" cy="6.5" rx="7.5" ry="3"/>'
        '<path d="M4.5 6.5v11c0 1.7 3.4 3 7.5 3s7.5-1.3 7.5-3v-11"/>'
        '<path d="M4.5 12c0 1.7 3.4 3 7.5 3s7.5-1.3 7.5-3"/>'
    ),
    "jobs": (
        '<path d="M9.5 6.5h10M9.5 12h10M9.5 17.5h10"/>'
        '<path d="m3.8 6.5 1.1 1.1 2-2.1M3.8 12l1.1 1.1 2-2.1"/><circle cx="5.2" cy="17.5" r="1"/>'
    ),
    "tokens": '<circle cx="8" cy="15.5" r="4"/><path d="m11 12.5 8-8M16 7.5l2.5 2.5M13.5 10l1.5 1.5"/>',
    "people": (
        '<circle cx="9" cy="8.5" r="3.5"/><path d="M2.8 19.5c.5-3.5 3-5.5 6.2-5.5s5.7 2 6.2 5.5"/>'
        '<path d="M15.5 5.5a3.5 3.5 0 0 1 0 6.2M17.5 14.5c2 .8 3.3 2.5 3.7 5"/>'
    ),
    "audit": (
        '<path d="M6.5 3.5h11a1.5 1.5 0 0 1 1.5 1.5v15.5l-3-2-4 2-4-2-3 2V5a1.5 1.5 0 0 1 1.5-1.5z"/>'
        '<path d="M8.5 8.5h7M8.5 12.5h7"/>'
    ),
    "lock": ('<rect x="5" y="10.5" width="14" height="9.5" rx="2.5"/><path d="M8.5 10.5V7.5a3.5 3.5 0 0 1 7 0v3"/>'),
    "copy": (
        '<rect x="8.5" y="8.5" width="11" height="11" rx="2.5"/>'
        '<path d="M15.5 5.5V5A1.5 1.5 0 0 0 14 3.5H6A2.5 2.5 0 0 0 3.5 6v8A1.5 1.5 0 0 0 5 15.5h.500"/>'
    ),
    "add": '<path d="M12 5.5v13M5.5 12h13"/>',
    "theme": '<circle cx="12" cy="12" r="8"/><path d="M12 4v16a8 8 0 0 0 0-16z" fill="currentColor"/>',
    "logout": (
        '<path d="M10 5H6.5A1.5 1.5 0 0 0 5 6.5v11A1.5 1.5 0 0 0 6.5 19H10"/>'
        '<path d="M14.5 8.5 18 12l-3.5 3.5M18 12h-8"/>'
    ),
    "next": '<path d="m9.5 6.5 5.5 5.5-5.5 5.5"/>',
    "previous": '<path d="M14.5 6.5 9 12l5.5 5.5"/>',
    "download": '<path d="M12 4.5v10M7.8 10.8 12 15l4.2-4.2M5 19.5h14"/>',
    "open": (
        '<path d="M13.5 5H19v5.5M19 5l-8 8"/>'
        '<path d="M10 6H6.5A1.5 1.5 0 0 0 5 7.5v10A1.5 1.5 0 0 0 6.5 19h10a1.5 1.5 0 0 0 1.5-1.5V14"/>'
    ),
    "stop": '<path d="M8.5 3.5h7l5 5v7l-5 5h-7l-5-5v-7z"/><path d="M9 9h6v6H9z" fill="currentColor"/>',
    "arm": (
        '<path d="M4 20h7M7.5 20v-4M7.5 16 6 9.5 13 5l5.5 4.5-2 3.5"/><circle cx="7.5" cy="16" r="1.6"/>'
        '<circle cx="6" cy="9.5" r="1.6"/><circle cx="13" cy="5" r="1.6"/>'
    ),
}
