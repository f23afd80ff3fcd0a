// Shows the charts of /llm/ below Locust's own table while the tab "LLM" is open.
"use strict";

const frame = document.createElement("iframe");
frame.title = "LLM charts";
frame.style.cssText = "width: 100%; border: 0; margin-top: 1rem; display: block;";

function fit() {
  const page = frame.contentDocument && frame.contentDocument.documentElement;
  if (page) frame.style.height = page.scrollHeight + "px";
}

frame.addEventListener("load", () => {
  new ResizeObserver(fit).observe(frame.contentDocument.body);
  fit();
});

function place() {
  const isOpen = new URLSearchParams(location.search).get("tab") === "llm";
  const tabs = document.querySelector(".MuiTabs-root");
  const box = isOpen && tabs ? tabs.closest(".MuiContainer-root") : null;
  if (!box) {
    if (frame.isConnected) frame.remove();
  } else if (frame.parentElement !== box) {
    if (!frame.getAttribute("src")) frame.src = "./llm/?inside";
    box.append(frame);
  }
}

new MutationObserver(place).observe(document.getElementById("root"), { childList: true, subtree: true });
addEventListener("popstate", place);
place();
