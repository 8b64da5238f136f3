// <lf-when datetime="ISO 8601" label>: a moment typed in the viewer's zone; event "when" tells it in UTC ("" when emptied).

const two = (number) => String(number).padStart(2, "0");

function local(ms) {
  const at = new Date(ms);
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day}T${two(at.getHours())}:${two(at.getMinutes())}`;
}

class When extends HTMLElement {
  connectedCallback() {
    if (this.firstChild) return;
    const input = Object.assign(document.createElement("input"), { type: "datetime-local", className: "lf-input" });
    input.setAttribute("aria-label", this.getAttribute("label"));
    input.title = this.getAttribute("label");
    const ms = Date.parse(this.getAttribute("datetime"));
    if (!Number.isNaN(ms)) input.value = local(ms);
    input.addEventListener("change", () => {
      const detail = input.value ? new Date(input.value).toISOString() : "";
      this.dispatchEvent(new CustomEvent("when", { detail }));
    });
    this.append(input);
  }
}
customElements.define("lf-when", When);
