"""The look of the live page, beyond that of a report, and the policy under which it may act."""

from __future__ import annotations

import base64
import functools
import hashlib

from memguard.report.health.page.script import SCRIPT
from memguard.report.render.html.style import STYLE as REPORT_STYLE

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


@functools.cache
def page_policy() -> str:
    """
    Return the Content Security Policy of the live page: its own style and its own script.

    Both are named by their hashes (CSP Level 3, w3.org/TR/CSP3). It may ask its own origin and post
    its form there; no frame may hold it, so that nobody can be made to press its button unseen.
    """
    return (
        f"default-src 'none'; script-src 'sha256-{_digest(SCRIPT)}'; "
        f"style-src 'sha256-{_digest(STYLE)}'; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
