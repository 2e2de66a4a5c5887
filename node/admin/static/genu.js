"use strict";

// Everything works without this file; it makes the page live, the heat map's opacity movable and times local.

(() => {
  const byId = (id) => document.getElementById(id);

  // Times: the server says UTC, the reader's clock says the rest.
  const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  function localTimes(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      time.title = time.textContent;
      time.textContent = clock.format(new Date(time.dateTime));
    }
  }

  // The heat map: a switch and an opacity.
  function viewer() {
    const toggle = byId("heat-switch");
    const slider = byId("heat-opacity");
    if (!toggle || !slider) return;
    const layers = document.querySelectorAll(".film .heat");
    const show = () => {
      slider.disabled = !toggle.checked;
      byId("heat-percent").textContent = `${slider.value} %`;
      for (const layer of layers) {
        layer.hidden = !toggle.checked;
        layer.style.opacity = String(slider.value / 100);
      }
    };
    slider.parentElement.hidden = false;
    toggle.addEventListener("change", show);
    slider.addEventListener("input", show);
    show();
  }

  // The live part: fetched again every few seconds, put in place without losing the focus.
  function live() {
    const button = byId("live-switch");
    if (!button) return;
    const pause = Number(button.dataset.seconds) * 1000;
    let on = true;
    let timer = 0;

    const put = (text) => {
      for (const fresh of new DOMParser().parseFromString(text, "text/html").body.children) {
        const place = byId(fresh.id);
        if (!place) continue;
        if (place.dataset.pictures !== fresh.dataset.pictures) {
          location.reload(); // the film has been read, or graded again
          return;
        }
        const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
        localTimes(fresh);
        place.replaceChildren(...fresh.childNodes);
        if (focused) byId(focused)?.focus({ preventScroll: true });
      }
    };

    const refresh = async () => {
      try {
        const answer = await fetch(button.dataset.live, { headers: { Accept: "application/xhtml+xml" } });
        if (answer.status === 401) {
          location.reload();
          return;
        }
        if (!answer.ok) throw new Error(String(answer.status));
        const text = await answer.text();
        const selecting = !document.getSelection().isCollapsed;
        if (on && !selecting) put(text); // a mark that somebody is about to copy stays
        byId("live-lost").hidden = true;
      } catch {
        byId("live-lost").hidden = false;
      }
      next();
    };

    const next = () => {
      clearTimeout(timer);
      if (on && !document.hidden) timer = setTimeout(refresh, pause);
    };

    button.hidden = false;
    button.addEventListener("click", () => {
      on = !on;
      button.setAttribute("aria-pressed", String(on));
      if (on) refresh();
    });
    document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : on && refresh()));
    next();
  }

  localTimes(document);
  viewer();
  live();
})();
