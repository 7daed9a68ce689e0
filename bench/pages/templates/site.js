// Tables and charts of a page: what is marked up in it is given to DataTables and vega-embed. The address keeps what was chosen.
"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const link = () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");

  function makeTable(table) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    const keys = heads.map((head) => head.dataset.key);
    const filters = [...document.querySelectorAll(`[data-for="${table.id}"] select`)];
    const given = link();
    const small = matchMedia("(max-width: 700px)").matches;
    const away = keys.filter((_, i) => heads[i].dataset.shown === "false" || (small && heads[i].dataset.small === "false"));
    const hidden = given.has("hide") ? given.get("hide").split(",") : away;
    const [by, way] = (given.get("sort") || "").split(":");
    const made = new DataTable(table, {
      paging: table.tBodies[0].rows.length > 50,
      pageLength: 25,
      autoWidth: false,
      order: keys.includes(by) ? [[keys.indexOf(by), way === "desc" ? "desc" : "asc"]] : [],
      search: { search: given.get("q") || "" },
      columnDefs: [{ targets: keys.flatMap((key, i) => (hidden.includes(key) ? [i] : [])), visible: false }],
      layout: {
        topStart: {
          buttons: [
            { extend: "colvis", text: "Columns" },
            { extend: "csvHtml5", text: "CSV", title: table.dataset.file, exportOptions: { columns: ":visible" } },
          ],
        },
        topEnd: "search",
        bottomStart: "info",
        bottomEnd: table.tBodies[0].rows.length > 50 ? "paging" : null,
      },
    });
    const filter = (select) => made.column(keys.indexOf(select.dataset.filter)).search(select.value, { exact: select.value !== "" });

    function remember() {
      const now = new URLSearchParams();
      const [first] = made.order();
      const at = first && (Array.isArray(first) ? first : made.order());
      if (at && at[1]) now.set("sort", `${keys[at[0]]}:${at[1]}`);
      const chosen = keys.filter((_, i) => !made.column(i).visible()).join();
      if (chosen !== away.join()) now.set("hide", chosen);
      if (made.search()) now.set("q", made.search());
      for (const select of filters) if (select.value) now.set(select.dataset.filter, select.value);
      const text = now.toString();
      if (text || location.hash.includes("=")) history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
    }

    for (const select of filters) {
      const wanted = given.get(select.dataset.filter) || "";
      if ([...select.options].some((option) => option.value === wanted)) select.value = wanted;
      if (select.value) filter(select);
      select.addEventListener("change", () => filter(select).draw());
    }
    made.draw();
    made.on("draw column-visibility", remember);
  }

  function draw(place) {
    const spec = JSON.parse(document.getElementById(place.dataset.spec).textContent);
    const quiet = { background: "transparent", axis: { labelLimit: 220 }, view: { stroke: null }, legend: { symbolBaseFillColor: "#888", symbolBaseStrokeColor: "#888" } };
    const name = (made) => {
      // One picture with a name, instead of a hundred marks that a screen reader would read one by one; the table has the numbers.
      const picture = place.querySelector("svg.marks");
      for (const part of picture.querySelectorAll("[role]")) {
        for (const key of ["role", "aria-label", "aria-roledescription"]) part.removeAttribute(key);
      }
      picture.setAttribute("role", "img");
      picture.setAttribute("aria-label", spec.description);
      return made;
    };
    return vegaEmbed(place, spec, {
      renderer: "svg",
      ast: true,
      theme: dark.matches ? "dark" : undefined,
      config: quiet,
      actions: { export: true, source: false, compiled: false, editor: false },
    }).then(name);
  }

  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        seen.unobserve(entry.target);
        draw(entry.target);
      }
    },
    { rootMargin: "400px" },
  );

  function theme() {
    document.documentElement.classList.toggle("dark", dark.matches);
  }

  theme();
  dark.addEventListener("change", () => {
    theme();
    document.querySelectorAll(".vega-embed").forEach(draw);
  });
  document.querySelectorAll("table.data").forEach(makeTable);
  document.querySelectorAll(".vega").forEach((place) => seen.observe(place));
  for (const pair of document.querySelectorAll(".compare")) {
    const after = pair.querySelectorAll("img")[1];
    const bar = pair.querySelector("input");
    const show = () => (after.style.clipPath = `inset(0 ${100 - bar.value}% 0 0)`);
    bar.addEventListener("input", show);
    show();
  }
  for (const film of document.querySelectorAll(".film")) {
    const sides = [...film.querySelectorAll("img")];
    const time = film.querySelector("input.time");
    const play = film.querySelector("button");
    const show = () => sides.forEach((side) => (side.style.transform = `translateY(${(-100 * (time.value - 1)) / time.max}%)`));
    let playing;
    time.addEventListener("input", show);
    play.addEventListener("click", () => {
      playing = playing ? clearInterval(playing) : setInterval(() => ((time.value = (time.value % time.max) + 1), show()), 250);
      play.setAttribute("aria-pressed", String(Boolean(playing)));
    });
    for (const select of film.querySelectorAll("select")) {
      select.addEventListener("change", () => {
        const side = sides[Number(select.dataset.side)];
        side.src = select.value;
        side.alt = select.selectedOptions[0].text;
      });
    }
  }
  window.addEventListener("hashchange", () => {
    if (location.hash.includes("=")) location.reload();
  });
})();
