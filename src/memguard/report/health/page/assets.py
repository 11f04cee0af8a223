"""
The style and the script of the live page, and its Content Security Policy.

The page is whole without its script, which asks for news, puts them in place, and sends the form.
What it puts in place was rendered and escaped by this package, is parsed by ``DOMParser``, which
runs nothing, and stands under the page's own policy.

If several processes answer at one address (workers of one server), the page stays with the
process that it began with: numbers of two processes in one curve would be of neither.
"""

from __future__ import annotations

import functools

from memguard.report.render.html.style import STYLE as REPORT_STYLE
from memguard.report.render.html.style import digest

STYLE = (
    REPORT_STYLE
    + """
.top { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; justify-content: space-between;
  align-items: baseline; margin-bottom: 0.7rem; font-size: 0.88rem; color: var(--soft); }
.top .kicker { margin: 0; }
.badge.ok { background: var(--good-tint); color: var(--good); }
.badge.elevated, .badge.ineffective { background: var(--warn-tint); color: var(--warn); }
.badge.critical, .badge.recycle { background: var(--bad-tint); color: var(--bad); }
.badge.insufficient_data, .badge.snapshot { background: var(--code); color: var(--soft); }
#state { font-variant-numeric: tabular-nums; }
#state::before { content: ""; display: inline-block; width: 0.5rem; height: 0.5rem;
  margin-right: 0.45rem; border-radius: 50%; background: var(--soft); vertical-align: 0.05rem; }
#state.live::before { background: var(--good); }
#state.stale { color: var(--bad); font-weight: 650; }
#state.stale::before { background: var(--bad); }
.old-numbers [data-part] { opacity: 0.5; }
h1 .of { font-weight: 400; color: var(--soft); }
.gauge { display: block; margin-top: 1.1rem; border-radius: 6px; overflow: hidden; }
.gauge .track { fill: var(--line); }
.gauge .fill { fill: var(--calm); }
.gauge.ok .fill { fill: var(--good); }
.gauge.elevated .fill { fill: #d08a00; }
.gauge.critical .fill { fill: var(--bad); }
.why { margin-top: 0.9rem; }
.facts { margin-top: 1.2rem; }
.chart text { paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
.ask { margin-top: 0.75rem; }
[data-part] > .card + .card { margin-top: 0.75rem; }
.chart .range { fill: var(--curve); fill-opacity: 0.22; stroke: none; }
.chart .area { fill: var(--fill); }
.key.range { stroke: var(--curve); stroke-opacity: 0.3; stroke-width: 7; }
.bar-heading { display: flex; flex-wrap: wrap; gap: 0.3rem 1rem; align-items: baseline;
  justify-content: space-between; margin: 2.4rem 0 0.75rem; }
.bar-heading h2 { margin: 0; }
nav { display: flex; gap: 0.25rem; font-size: 0.86rem; }
nav a { padding: 0.2rem 0.7rem; border-radius: 99px; color: var(--soft); text-decoration: none; }
nav a:hover { background: var(--line); }
nav a[aria-current] { background: var(--calm-tint); color: var(--calm); font-weight: 650; }
.none { color: var(--soft); }
td .bar { margin: 0.3rem 0 0.1rem; }
td.name { width: 60%; }
td.name code { font-size: 0.95em; font-weight: 600; }
td.name .type { white-space: nowrap; }
tfoot td { font-weight: 650; border-bottom: 0; }
tbody:not(:last-child) tr:last-child td { border-bottom: 1px solid var(--line); }
td.none { text-align: right; }
.wide > .head { padding: 0.55rem 0; }
td.share { width: 45%; vertical-align: middle; }
.pair-of-tables { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.75rem; }
.pair-of-tables .card + .card { margin-top: 0; }
.news { list-style: none; }
.news > li + li { margin-top: 0.8rem; padding-top: 0.8rem; border-top: 1px solid var(--line); }
.news .when { color: var(--soft); font-size: 0.88rem; white-space: nowrap; }
.news .points { margin-top: 0.2rem; font-size: 0.93rem; list-style: disc; }
.report h3 { font-size: 1rem; font-weight: 650; }
.report dl { display: grid; grid-template-columns: max-content minmax(0, 1fr);
  gap: 0.2rem 0.9rem; margin-top: 0.6rem; font-size: 0.93rem; }
.report dt { color: var(--soft); }
form { display: flex; flex-wrap: wrap; gap: 0.6rem 0.75rem; align-items: end; }
label { font-size: 0.82rem; color: var(--soft); flex: 1 1 14rem; }
input { display: block; width: 100%; margin-top: 0.2rem; padding: 0.5rem 0.7rem; font: inherit;
  font-size: 1rem; color: var(--ink); background: var(--page); border: 1px solid var(--line);
  border-radius: 8px; }
button { padding: 0.55rem 1.2rem; font: inherit; font-weight: 650; color: #fff; border: 0;
  background: #2463c4; border-radius: 8px; cursor: pointer; }
button:hover { background: #1c50a0; }
button:disabled { opacity: 0.55; cursor: progress; }
input:focus-visible, button:focus-visible, nav a:focus-visible, footer a:focus-visible {
  outline: 2px solid var(--curve); outline-offset: 2px; }
#answer { margin-top: 0.7rem; font-size: 0.93rem; }
#answer:empty { display: none; }
#answer.bad { color: var(--bad); }
footer a { color: inherit; }
@media (max-width: 34rem) {
  .pair-of-tables { grid-template-columns: 1fr; }
  .news .when { display: block; }
  .report dl { grid-template-columns: 1fr; gap: 0; }
  .report dd { margin-bottom: 0.4rem; }
  td.name { width: auto; }
  button { width: 100%; }
}
@media print { nav, form, #state { display: none; } }
"""
)


SCRIPT = """
"use strict";
(() => {
  const main = document.querySelector("main");
  const state = document.getElementById("state");
  const form = document.querySelector("form");
  const answer = document.getElementById("answer");
  const here = location.origin + location.pathname;
  const every = Number(main.dataset.every) * 1000;
  const shown = new Map();
  const others = new Set();
  let foreign = 0, failures = 0, last = Date.now(), timer = 0, asking = false;

  const say = (text, kind) => { state.textContent = text; state.className = kind; };

  const put = (part, text) => {
    if (shown.get(part.dataset.part) === text) return;
    shown.set(part.dataset.part, text);
    const news = new DOMParser().parseFromString(text, "text/html").body;
    const open = new Set([...part.querySelectorAll("details[open]")].map((d) => d.dataset.key));
    for (const each of news.querySelectorAll("details")) each.open = open.has(each.dataset.key);
    part.replaceChildren(...news.childNodes);
  };

  const take = (news) => {
    if (news.instance !== main.dataset.instance) {
      others.add(news.instance);
      if (others.size > 100) others.clear();
      foreign += 1;
      const age = Math.round((Date.now() - last) / 1000);
      if (age > 5 + 2 * every / 1000) {
        say(`other processes answer; these numbers are ${age} s old`, "stale");
        main.classList.add("old-numbers");
      }
      if (foreign < Math.max(50, 6 * others.size)) return false;
      location.reload();  // the process is gone; begin with one that answers
      return true;
    }
    foreign = 0;
    document.title = news.title;
    for (const part of document.querySelectorAll("[data-part]")) {
      if (part.dataset.part in news.parts) put(part, news.parts[part.dataset.part]);
    }
    last = Date.now();
    const many = others.size ? `, one of ${others.size + 1} processes` : "";
    say(`live, every ${every / 1000} s${many}`, "live");
    main.classList.remove("old-numbers");
    return true;
  };

  const ask = async () => {
    if (document.hidden || asking) return;
    clearTimeout(timer);
    asking = true;
    let wait = every;
    try {
      const query = new URLSearchParams(location.search);
      const reply = await fetch(new URL(main.dataset.source + "?" + query, here), {
        cache: "no-store", signal: AbortSignal.timeout(10000),
      });
      if (!reply.ok) throw new Error(`the server answered ${reply.status}`);
      if (!take(await reply.json())) wait = 200;
      failures = 0;
    } catch (error) {
      failures += 1;
      wait = Math.min(every * 2 ** Math.min(failures, 3), 15000);
      const age = Math.round((Date.now() - last) / 1000);
      const why = error.message.startsWith("the server") ? error.message : "no answer";
      say(`${why}; these numbers are ${age} s old`, "stale");
      main.classList.add("old-numbers");
    }
    asking = false;
    timer = setTimeout(ask, wait);
  };

  const relieve = async (tries) => {
    const fields = new URLSearchParams({
      instance: main.dataset.instance, target: form.elements.target.value,
    });
    const reply = await fetch(new URL(form.getAttribute("action"), here), {
      method: "POST", body: fields, cache: "no-store",
      headers: { "X-Memguard-Token": form.elements.token.value, Accept: "application/json" },
      signal: AbortSignal.timeout(30000),
    });
    const found = await reply.json();
    if (found.error === "another process" && tries > 0) {
      await new Promise((next) => setTimeout(next, 100));
      return relieve(tries - 1);
    }
    answer.textContent = found.message;
    answer.className = reply.ok ? "" : "bad";
  };

  if (form) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = form.querySelector("button");
      button.disabled = true;
      answer.className = "";
      answer.textContent = "\\u2026";
      try {
        await relieve(25);
      } catch {
        answer.textContent = "No response; the run may be in progress.";
        answer.className = "bad";
      }
      button.disabled = false;
      ask();
    });
  }
  document.addEventListener("visibilitychange", ask);
  ask();
})();
"""


@functools.cache
def page_policy() -> str:
    """
    Return the Content Security Policy of the live page: its own style and its own script.

    Both are named by their hashes (CSP Level 3, w3.org/TR/CSP3). It may ask its own origin and post
    its form there; no frame may hold it, so that no user can be tricked into pressing its button
    unseen.
    """
    return (
        f"default-src 'none'; script-src 'sha256-{digest(SCRIPT)}'; "
        f"style-src 'sha256-{digest(STYLE)}'; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
