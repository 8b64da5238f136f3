// Runs before the first paint: the viewer's choice of dark or light, or the browser flashes the other one.
{
  const choice = document.cookie.match(/(?:^|; )lefleet_theme=(dark|light)/)?.[1] ?? "dark";
  document.documentElement.dataset.theme = choice;
}
