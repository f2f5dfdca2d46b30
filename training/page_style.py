"""Page style: the dashboard's palette and the layout of a report, as one style sheet without anything from outside."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
  --page: light-dark(#eef1f6, #080c13); --panel: light-dark(#fff, #0f1520); --raised: light-dark(#f4f6fa, #161e2b);
  --line: light-dark(#d3dae5, #1f2937); --control: light-dark(#7c899c, #5d6b80); --ink: light-dark(#0e1626, #e8edf6);
  --muted: light-dark(#4a566a, #9ba8bc); --good: light-dark(#05674a, #3ddc9f); --warn: light-dark(#7d5000, #fbc34d);
  --bad: light-dark(#b3211a, #ff8a80); --accent: light-dark(#0f6f6c, #4fd8c8);
  --c1: light-dark(#0a5bab, #5bb5f5); --c2: light-dark(#9c4600, #f5a13c); --c3: light-dark(#05674a, #3ddc9f);
  --c4: light-dark(#94327c, #e69ad2); --c5: light-dark(#5f6b7e, #8d99ad); --c6: light-dark(#7d5000, #fbc34d); }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 82rem; padding: 1rem clamp(.75rem, 2vw, 1.5rem) 3rem; background: var(--page);
  color: var(--ink); font: 14px/1.5 "Inter Variable", Inter, system-ui, "Segoe UI", Roboto, sans-serif;
  font-variant-numeric: tabular-nums; -webkit-font-smoothing: antialiased; }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
header { display: flex; flex-wrap: wrap; gap: .5rem 2rem; justify-content: space-between; align-items: flex-end;
  margin: .5rem 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
.over { margin: 0; font-size: .75rem; letter-spacing: .06em; text-transform: uppercase; color: var(--accent);
  font-weight: 600; }
.span { margin: 0; color: var(--muted); text-align: right; } .span b { color: var(--ink); }
main { display: grid; gap: .75rem; } main > * { min-width: 0; }
h2 { font-size: 1.05rem; margin: 1.5rem 0 0; } h2 + p { margin: .1rem 0 0; color: var(--muted); max-width: 100ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: .75rem;
  margin-top: .75rem; }
.cards.halves { grid-template-columns: repeat(auto-fill, minmax(min(100%, 32rem), 1fr)); }
.cards.whole { grid-template-columns: minmax(0, 1fr); } .pan { overflow-x: auto; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; min-width: 0; margin: 0; }
.card > h3 { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; margin: 0;
  padding: .5rem .75rem; border-bottom: 1px solid var(--line); font-size: .78rem; font-weight: 600;
  letter-spacing: .03em; text-transform: uppercase; color: var(--muted); }
.card > h3 span { text-transform: none; letter-spacing: 0; font-weight: 500; color: var(--ink); }
.card > div { padding: .6rem .75rem .75rem; } .card p { margin: .35rem 0 0; color: var(--muted); font-size: .85rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 11.5rem), 1fr)); gap: .75rem;
  margin: 0; }
.tiles > div { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .75rem; }
dt { color: var(--muted); font-size: .8rem; } dd { margin: 0; }
.tiles dd { font-size: 1.45rem; line-height: 1.25; font-weight: 600; letter-spacing: -.01em; }
.tiles dd + dd { font-size: .8rem; font-weight: 400; letter-spacing: 0; color: var(--muted); }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.flags { border: 1px solid var(--line); border-left: 4px solid var(--good); border-radius: .5rem;
  background: var(--panel); padding: .6rem .9rem; }
.flags.suspicious { border-left-color: var(--bad); } .flags.warning { border-left-color: var(--warn); }
.flags p { margin: 0; } .flags ul { margin: .35rem 0 0; padding-left: 1.1rem; } .flags li { margin: .15rem 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; background: var(--panel);
  margin-top: .75rem; }
.card .scroll { border: 0; border-radius: 0; margin: 0; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th, td { padding: .38rem .75rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap;
  vertical-align: baseline; }
tr:last-child > * { border-bottom: 0; } thead th { color: var(--muted); font-weight: 500; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; } tbody th { font-weight: 500; }
tbody th, thead th:first-child { position: sticky; left: 0; background: var(--panel); }
tr.own > * { background: var(--raised); } tr.own th { font-weight: 700; }
td small { display: block; color: var(--muted); font-size: .76rem; }
code, .num { font-family: "JetBrains Mono Variable", ui-monospace, "SF Mono", Menlo, monospace; font-size: .92em;
  font-variant-ligatures: none; overflow-wrap: anywhere; }
.chart { display: block; width: 100%; height: auto; }
.chart text { font: 11px system-ui, sans-serif; fill: var(--muted); font-variant-numeric: tabular-nums; }
.chart text.end { text-anchor: end; } .chart text.mid { text-anchor: middle; }
.chart text.name { fill: var(--ink); font-size: 12px; }
.chart path { fill: none; stroke: var(--line); } .chart .grid { stroke-width: 1; opacity: .75; }
.chart .base, .chart .tick { stroke: var(--control); }
.chart .guide { stroke: var(--muted); stroke-width: 1.2; stroke-dasharray: 2 3; }
.chart .band { fill: var(--good); opacity: .13; stroke: none; }
path.line { fill: none; stroke-width: 1.7; stroke-linejoin: round; } path.dashed { stroke-dasharray: 5 3; }
path.area.area { stroke: none; opacity: .35; } path.area.c5 { fill: var(--c5); }
path.whisker { stroke-width: 1.6; opacity: .65; }
.key { vertical-align: -1px; margin-right: .4rem; } .key path { fill: none; }
path.c1.c1 { stroke: var(--c1); } path.c2.c2 { stroke: var(--c2); } path.c3.c3 { stroke: var(--c3); }
path.c4.c4 { stroke: var(--c4); } path.c5.c5 { stroke: var(--c5); } path.c6.c6 { stroke: var(--c6); }
circle.mark { stroke: var(--panel); stroke-width: 1.2; }
circle.c1 { fill: var(--c1); } circle.c2 { fill: var(--c2); } circle.c3 { fill: var(--c3); }
circle.c4 { fill: var(--c4); } circle.c5 { fill: var(--c5); } circle.c6 { fill: var(--c6); }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; list-style: none; margin: 0 0 .3rem; padding: 0;
  font-size: .8rem; color: var(--muted); }
details { margin-top: .4rem; font-size: .82rem; } summary { color: var(--muted); cursor: pointer; padding: .15rem 0; }
details table { font-size: .8rem; } details th, details td { padding: .2rem .5rem; }
footer { margin-top: 2rem; padding-top: .75rem; border-top: 1px solid var(--line); color: var(--muted);
  font-size: .82rem; }
footer p { max-width: 90ch; } footer dl { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 0; }
@media (max-width: 34rem) { .span { text-align: left; } h1 { font-size: 1.3rem; }
  .chart.wide { min-width: 36rem; }
  .tiles { grid-template-columns: 1fr 1fr; } .tiles dd { font-size: 1.2rem; } }
@media print { body { background: #fff; } .card, .tiles > div, .scroll { break-inside: avoid; } }
"""
