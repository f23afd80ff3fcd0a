"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const printing = window.matchMedia("print");
  const narrow = window.matchMedia("(max-width: 640px)");
  const config = { responsive: true, displaylogo: false, displayModeBar: false };
  // Two of the colours are too dark for a dark page; these are their lighter sisters.
  const lighter = (text) => text.replaceAll("#0072B2", "#56B4E9").replaceAll("#009E73", "#35C495");
  const charts = [...document.querySelectorAll(".plot")].map((element) => ({
    element,
    text: document.getElementById(element.dataset.figure).textContent,
  }));

  // Colours of text and grid come from the style sheet, which knows dark, light and paper.
  const template = () => {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    const size = narrow.matches ? 11 : 12.5;
    const axis = { title: { font: { size } }, tickformat: ",", gridcolor: of("--grid"), minor: { gridcolor: of("--grid") }, linecolor: of("--line"), tickcolor: of("--line"), zerolinecolor: of("--line") };
    return {
      layout: {
        font: { family: "system-ui, sans-serif", size, color: of("--ink") },
        xaxis: axis,
        yaxis: axis,
        hoverlabel: { bgcolor: of("--card"), bordercolor: of("--line"), font: { color: of("--ink") } },
      },
    };
  };

  const draw = () =>
    charts.forEach(({ element, text }) => {
      const figure = JSON.parse(dark.matches && !printing.matches ? lighter(text) : text);
      const layout = { ...figure.layout, template: template(), dragmode: narrow.matches ? false : "zoom" };
      Plotly.react(element, figure.data, layout, config).catch((error) => {
        element.textContent = `This chart could not be drawn (${error}); the table below holds its data.`;
      });
    });

  // On paper nothing can be opened: whatever is closed is opened for it, and closed again.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const each of opened) each.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const each of opened) each.open = false;
    opened = [];
  });

  draw();
  for (const query of [dark, printing, narrow]) query.addEventListener("change", draw);
})();
