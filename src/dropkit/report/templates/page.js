"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const fine = matchMedia("(pointer: fine)").matches;

  const draw = (element) => {
    const figure = figures[element.id];
    if (!figure || element.dataset.drawn) return;
    element.dataset.drawn = "yes";
    // a finger scrolls the page; only a mouse zooms by dragging
    figure.layout.dragmode = fine ? "zoom" : false;
    const axis = figure.layout.xaxis;
    if (figure.layout.hovermode === "x unified") axis.unifiedhovertitle = { text: axis.title.text.split(" ")[0] + " %{x}" };
    if ("square" in element.dataset) {
      figure.layout.height = Math.min(figure.layout.height, element.clientWidth);
      element.style.minHeight = figure.layout.height + "px";
    }
    Plotly.newPlot(element, figure.data, figure.layout, {
      responsive: true,
      displaylogo: false,
      displayModeBar: fine ? "hover" : false,
      modeBarButtons: [["toImage", "resetScale2d"]],
      toImageButtonOptions: { filename: "dropkit-" + element.id, scale: 2 },
    });
  };
  // a hidden figure has no width to draw into: it waits until its tab is chosen
  const waiting = () => [...document.querySelectorAll(".figure:not([data-drawn])")].filter((f) => !f.closest("[hidden]"));
  const drawVisible = () => waiting().forEach(draw);
  // one figure at a time, so that the page can be scrolled and read from the start
  const drawNext = () => {
    const next = waiting()[0];
    if (next) { draw(next); setTimeout(drawNext); } else document.body.dataset.figures = "drawn";
  };

  const choose = (tab) => {
    for (const other of tab.parentElement.children) {
      const chosen = other === tab;
      other.setAttribute("aria-selected", String(chosen));
      other.tabIndex = chosen ? 0 : -1;
      const pane = document.getElementById(other.getAttribute("aria-controls"));
      pane.hidden = !chosen;
      if (chosen) pane.querySelectorAll("[data-drawn]").forEach((figure) => Plotly.Plots.resize(figure));
    }
    drawVisible();
  };
  for (const tab of document.querySelectorAll("[role=tab]")) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: "previousElementSibling", ArrowRight: "nextElementSibling" }[event.key];
      const next = step && tab[step];
      if (next) { choose(next); next.focus(); }
    });
  }

  for (const button of document.querySelectorAll(".copy")) {
    const code = button.parentElement.querySelector("code");
    button.hidden = false;
    button.addEventListener("click", async () => {
      getSelection().selectAllChildren(code);
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        document.execCommand("copy");
      }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  // the gallery of predictions: cards of one class, or with a text in them, and the other order
  const filter = document.getElementById("filter");
  if (filter) {
    const text = document.getElementById("filter-text");
    const cards = [...document.querySelectorAll(".shots li")];
    const apply = () => {
      const wanted = text.value.trim().toLowerCase();
      for (const card of cards) {
        const fits = filter.value === "" || card.dataset.label === filter.value;
        card.hidden = !(fits && card.textContent.toLowerCase().includes(wanted));
      }
      const left = cards.filter((card) => !card.hidden).length;
      document.getElementById("filter-count").textContent = left + " of " + cards.length;
    };
    for (const input of [filter, text]) input.addEventListener("input", apply);
    document.getElementById("turn").addEventListener("click", () => {
      for (const list of document.querySelectorAll(".shots")) list.append(...[...list.children].reverse());
    });
    document.getElementById("filters").hidden = false;
    apply();
  }

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = document.getElementById("theme");
  const setTheme = (name) => {
    document.documentElement.dataset.theme = name;
    theme.textContent = name === "dark" ? "Light" : "Dark";
    theme.setAttribute("aria-label", "Switch to the " + theme.textContent.toLowerCase() + " theme");
  };
  let chosenTheme = false;
  const followSystem = () => chosenTheme || setTheme(dark.matches ? "dark" : "light");
  dark.addEventListener("change", followSystem);
  theme.addEventListener("click", () => {
    chosenTheme = true;
    setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  });
  followSystem();
  theme.hidden = false;

  addEventListener("beforeprint", drawVisible);
  drawNext();
})();
