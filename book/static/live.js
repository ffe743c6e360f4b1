/* Plays the frames of interactive figures. Where this script is absent, or the
   browser cannot unpack frames, the default frame stands. */
(function () {
  "use strict";

  function unpack(text) {
    var bytes = Uint8Array.from(atob(text.trim()), function (c) { return c.charCodeAt(0); });
    var stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).json();
  }

  function start(figure, frames) {
    var wide = figure.querySelector(".rl-wide");
    var narrow = figure.querySelector(".rl-narrow");
    var say = figure.querySelector(".rl-say");
    var fields = Array.from(figure.querySelectorAll("[data-key]"));
    var shown = -1, asked = false, timer = 0;

    function position(field) {
      return field.type === "checkbox" ? Number(field.checked) : Number(field.value);
    }

    function count(field) {
      if (field.type === "checkbox") return 2;
      return field.options ? field.options.length : Number(field.max) + 1;
    }

    function index() {
      return fields.reduce(function (sum, field) {
        return sum * count(field) + position(field);
      }, 0);
    }

    function label(field) {
      if (field.type !== "range") return;
      var text = JSON.parse(field.dataset.texts)[position(field)];
      field.setAttribute("aria-valuetext", text);
      field.nextElementSibling.textContent = text;
      field.style.setProperty("--p", 100 * position(field) / Number(field.max) + "%");
    }

    function paint() {
      asked = false;
      var now = index();
      if (now === shown) return;
      shown = now;
      wide.innerHTML = frames.wide[now];
      narrow.innerHTML = frames.narrow[now];
      figure.dataset.frame = now;
      figure.dataset.paints = Number(figure.dataset.paints || 0) + 1;
      clearTimeout(timer);
      timer = setTimeout(function () { say.textContent = frames.say[now]; }, 120);
    }

    function moved(event) {
      label(event.target);
      if (asked) return;
      asked = true;
      requestAnimationFrame(paint);
    }

    fields.forEach(function (field) {
      label(field);
      field.addEventListener("input", moved);
      field.addEventListener("change", moved);
    });
    shown = index();
    figure.dataset.frame = shown;
    figure.querySelector(".rl-controls").hidden = false;
    figure.querySelector(".rl-offline").hidden = true;
    figure.classList.add("rl-ready");
  }

  function all() {
    if (!("DecompressionStream" in window)) return;
    document.querySelectorAll(".rl-live").forEach(function (figure) {
      unpack(figure.querySelector(".rl-frames").textContent).then(function (frames) {
        start(figure, frames);
      });
    });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", all);
  else all();
})();
