"use strict";

// Everything works without this file; it refreshes the page, changes the opacity of the heat map and shows local times.

(() => {
  const byId = (id) => document.getElementById(id);

  // Times: the server sends UTC, the browser shows local time.
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

  // The fragments that change: fetched every few seconds and inserted without losing the focus.
  function live() {
    const button = byId("live-switch");
    if (!button) return;
    const pause = Number(button.dataset.seconds) * 1000;
    let on = true;
    let timer = 0;

    const insert = (text) => {
      for (const fresh of new DOMParser().parseFromString(text, "text/html").body.children) {
        const target = byId(fresh.id);
        if (!target) continue;
        if (target.dataset.pictures !== fresh.dataset.pictures) {
          location.reload(); // the film has been read, or graded again
          return;
        }
        const focused = target.contains(document.activeElement) ? document.activeElement.id : "";
        localTimes(fresh);
        target.replaceChildren(...fresh.childNodes);
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
        if (on && !selecting) insert(text); // keeps a selection that is about to be copied
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
