/* What the pages need beyond HTML: folding, printing, the landing page's live
   figure and its chapter map. A classic script: it must run from file://. */
(function () {
  "use strict";
  function all(root, what) { return Array.prototype.slice.call(root.querySelectorAll(what)); }

  // Search fetches the pages that it found for their summaries, which a file may not.
  if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

  // Text with formulas waits until they are set, or it would move under the
  // reader's eyes; the title, the question and the strip do not wait.
  var html = document.documentElement;
  function show() {
    html.classList.remove("rl-wait");
    // What scrolls inside itself must be reachable from the keyboard.
    all(document, ".bd-article :is(div.math, p, li, dd)").forEach(function (one) {
      if (one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX === "auto") one.tabIndex = 0;
    });
  }
  if (window.MathJax) {
    html.classList.add("rl-wait");
    MathJax.startup = { pageReady: function () { return MathJax.startup.defaultPageReady().then(show, show); } };
    setTimeout(show, 6000);
  }

  // A strip is folded on a phone before it is painted: later, the text would jump.
  if (matchMedia("(max-width: 767.98px)").matches) {
    var watch = new MutationObserver(function () {
      var strip = document.querySelector(".rl-strip");
      if (strip) { strip.open = false; watch.disconnect(); }
    });
    watch.observe(html, { childList: true, subtree: true });
  }

  // On paper everything is open; afterwards what was folded is folded again.
  var closed = [], hidden = [];
  addEventListener("beforeprint", function () {
    closed = all(document, ".bd-article :is(details.rl-choice, .rl-strip, .tag_solution > details):not([open])");
    closed.forEach(function (one) { one.open = true; });
    hidden = all(document, ".bd-article .toggle-hidden");
    hidden.forEach(function (one) { one.classList.remove("toggle-hidden"); });
  });
  addEventListener("afterprint", function () {
    closed.forEach(function (one) { one.open = false; });
    hidden.forEach(function (one) { one.classList.add("toggle-hidden"); });
  });

  // Value iteration on a grid. The picture is drawn already; only its state changes.
  function world(root) {
    var W = 14, H = 9, SHIFT = [1, W, -1, -W], LAST = 40;
    var frame = root.querySelector(".rl-frame"), cells = all(frame, "rect"), arrows = all(frame, "use");
    var slider = root.querySelector("[type=range]"), play = root.querySelector(".rl-play");
    var line = root.querySelector(".rl-check"), goal = cells.findIndex(function (c) { return c.matches(".g"); });
    var gamma = 0.9, history, best, at = goal, timer = 0;

    function step(s, a) {
      var to = s + SHIFT[a & 3], x = s % W;
      var out = to < 0 || to >= W * H || ((a & 3) === 0 && x === W - 1) || ((a & 3) === 2 && x === 0);
      return out || cells[to].matches(".w") ? s : to;
    }
    function worth(v, s, a) {
      function after(b) { var to = step(s, b); return to === goal ? 1 : gamma * v[to]; }
      return 0.8 * after(a) + 0.1 * after(a + 1) + 0.1 * after(a + 3);
    }
    function sweep(v) {
      return v.map(function (_, s) {
        if (s === goal || cells[s].matches(".w")) return 0;
        return Math.max(worth(v, s, 0), worth(v, s, 1), worth(v, s, 2), worth(v, s, 3));
      });
    }
    function solve() {
      history = [new Array(W * H).fill(0)];
      while (history.length <= LAST) history.push(sweep(history[history.length - 1]));
      best = history[LAST];
      for (var gap = 1; gap > 1e-9;) {
        var next = sweep(best);
        gap = distance(next, best);
        best = next;
      }
      draw();
    }
    function distance(a, b) { return a.reduce(function (most, x, s) { return Math.max(most, Math.abs(x - b[s])); }, 0); }
    function draw() {
      var k = Number(slider.value), v = history[k];
      cells.forEach(function (cell, s) {
        var free = s !== goal && !cell.matches(".w");
        if (free) cell.setAttribute("fill-opacity", 0.06 + 0.8 * Math.pow(v[s], 0.9));
        else cell.removeAttribute("fill-opacity");
        arrows[s].setAttribute("class", !free || v[s] <= 0 ? "n" : v[s] > 0.8 ? "l" : "");
        var turn = 0;
        for (var a = 1; a < 4; a++) if (worth(v, s, a) > worth(v, s, turn) + 1e-9) turn = a;
        arrows[s].setAttribute("transform", "translate(" + (44 * (s % W) + 21) + " " + (44 * Math.floor(s / W) + 21) + ") rotate(" + 90 * turn + ")");
      });
      var error = distance(best, v), bound = Math.pow(gamma, k) * distance(best, history[0]);
      var holds = error <= bound + 1e-8;
      line.classList.toggle("rl-failed", !holds);
      line.firstElementChild.textContent = holds ? "Checked" : "Failed";
      line.querySelector(".rl-sentence").innerHTML = "after " + k + " sweeps the error is " + error.toFixed(3) +
        ", the bound γ<sup>k</sup> promises at most " + bound.toFixed(3);
      slider.style.setProperty("--p", 100 * k / LAST + "%");
      slider.nextElementSibling.textContent = k;
    }
    function stop() { clearInterval(timer); timer = 0; play.textContent = "Play"; }
    function wall(s) { if (s >= 0 && s !== goal) { cells[s].classList.toggle("w"); solve(); } }

    slider.addEventListener("input", function () { stop(); draw(); });
    play.addEventListener("click", function () {
      if (timer) return stop();
      if (Number(slider.value) >= LAST) slider.value = 0;
      if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
        slider.value = LAST;
        return draw();
      }
      play.textContent = "Pause";
      timer = setInterval(function () {
        slider.value = Number(slider.value) + 1;
        draw();
        if (Number(slider.value) >= LAST) stop();
      }, 160);
    });
    all(root, "[type=radio]").forEach(function (radio) {
      if (radio.checked) gamma = Number(radio.value);
      radio.addEventListener("change", function () { gamma = Number(radio.value); solve(); });
    });
    frame.addEventListener("click", function (event) { wall(cells.indexOf(event.target)); });
    frame.addEventListener("keydown", function (event) {
      var a = ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"].indexOf(event.key);
      var to = at + SHIFT[a];
      if (event.key === " " || event.key === "Enter") wall(at);
      else if (a < 0) return;
      else if (to >= 0 && to < W * H && (a % 2 || Math.floor(to / W) === Math.floor(at / W))) {
        cells[at].classList.remove("at");
        cells[at = to].classList.add("at");
      }
      event.preventDefault();
    });
    cells[at].classList.add("at");
    solve();
    root.classList.add("rl-ready");
  }

  // The two small proofs: both numbers of a check line are computed here, apart.
  var PROOFS = {
    identity: function (root, v) {
      var reference = [0.4, 0.3, 0.2, 0.1], rewards = [0, 0.5, 1, 2];
      var policy = reference.map(function (p, i) { return (1 - v.move) * p + (i === 3 ? v.move : 0); });
      var tilted = reference.map(function (p, i) { return p * Math.exp(rewards[i] / v.beta); });
      var total = tilted.reduce(function (a, b) { return a + b; });
      var best = tilted.map(function (t) { return t / total; });
      function divergence(p, q) { return p.reduce(function (sum, x, i) { return x > 0 ? sum + x * Math.log(x / q[i]) : sum; }, 0); }
      var reward = policy.reduce(function (sum, p, i) { return sum + p * rewards[i]; }, 0);
      var lacks = v.beta * Math.log(total) - (reward - v.beta * divergence(policy, reference));
      var right = v.beta * divergence(policy, best);
      all(root, "rect").forEach(function (bar, i) {
        var p = (i < 4 ? policy : best)[i % 4];
        bar.setAttribute("y", 176 - 140 * p);
        bar.setAttribute("height", 140 * p);
      });
      return { shown: { beta: v.beta.toFixed(1), move: v.move.toFixed(2) }, holds: Math.abs(lacks - right) < 1e-9,
        says: "it lacks " + lacks.toFixed(4) + " of the best objective; β KL(π, π*) = " + right.toFixed(4) };
    },
    group: function (root, v) {
      var G = Math.pow(2, v.size + 1), most = Math.sqrt(G) * (1 - 1 / G), points = [];
      function factor(p) {
        for (var k = 1, chance = Math.pow(1 - p, G), sum = 0; k < G; k++) {
          chance *= (G - k + 1) / k * p / (1 - p);
          sum += chance * Math.sqrt(k * (G - k) * (G - 1) / G);
        }
        return sum / (G * p * (1 - p));
      }
      function x(p) { return 30 + 460 * p; }
      function y(value) { return 180 - 28 * value; }
      for (var i = 1; i < 100; i++) points.push(x(i / 100) + " " + y(factor(i / 100)));
      var here = factor(v.p), dot = root.querySelector("circle");
      root.querySelector(".c").setAttribute("d", "M" + points.join("L"));
      root.querySelector(".d").setAttribute("d", "M30 " + y(most) + "H490");
      dot.setAttribute("cx", x(v.p));
      dot.setAttribute("cy", y(here));
      return { shown: { p: v.p.toFixed(2), size: G }, holds: here <= most + 1e-9,
        says: "the gradient is multiplied by " + here.toFixed(2) + "; √G (1 − 1/G) = " + most.toFixed(2) + " bounds it" };
    }
  };
  function proof(root) {
    var sliders = all(root, "[type=range]"), line = root.querySelector(".rl-check");
    function draw() {
      var values = {};
      sliders.forEach(function (one) { values[one.name] = Number(one.value); });
      var made = PROOFS[root.dataset.proof](root, values);
      sliders.forEach(function (one) {
        one.style.setProperty("--p", 100 * (one.value - one.min) / (one.max - one.min) + "%");
        one.nextElementSibling.textContent = made.shown[one.name];
        one.setAttribute("aria-valuetext", made.shown[one.name]);
      });
      line.classList.toggle("rl-failed", !made.holds);
      line.firstElementChild.textContent = made.holds ? "Checked" : "Failed";
      line.querySelector(".rl-sentence").textContent = made.says;
    }
    sliders.forEach(function (one) { one.addEventListener("input", draw); });
    draw();
    root.classList.add("rl-ready");
  }

  // Pointing at a chapter, or focusing it, lights everything that it needs.
  function map(svg) {
    var nodes = {};
    all(svg, ".rl-node").forEach(function (node) { nodes[node.dataset.n] = node; });
    function light(start) {
      var lit = {};
      (function visit(n) {
        if (lit[n] || !nodes[n]) return;
        lit[n] = true;
        nodes[n].dataset.needs.split(" ").forEach(visit);
      })(start);
      Object.keys(nodes).forEach(function (n) { nodes[n].classList.toggle("rl-lit", !!lit[n]); });
      all(svg, ".rl-edge").forEach(function (edge) {
        edge.classList.toggle("rl-lit", !!(lit[edge.dataset.from] && lit[edge.dataset.to]));
      });
    }
    function find(event) {
      var node = event.target.closest(".rl-node");
      light(node ? node.dataset.n : "");
    }
    ["pointerover", "focusin"].forEach(function (name) { svg.addEventListener(name, find); });
    ["pointerleave", "focusout"].forEach(function (name) { svg.addEventListener(name, function () { light(""); }); });
  }

  addEventListener("DOMContentLoaded", function () {
    if (watch) watch.disconnect();
    all(document, ".rl-world").forEach(world);
    all(document, ".rl-proof").forEach(proof);
    all(document, ".rl-map > svg").forEach(map);
  });
})();
