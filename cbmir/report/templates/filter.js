// The gallery can be narrowed to a class and to right or wrong; without JavaScript everything is shown, and the controls are not.
const filters = document.getElementById("gallery-filters");
if (filters) {
  const wanted = filters.querySelector("select");
  const radios = [...filters.querySelectorAll("input[type=radio]")];
  const count = document.getElementById("gallery-count");
  const cases = [...document.querySelectorAll("#gallery .case")];
  const shelves = [...document.querySelectorAll("#gallery .shelf")];
  const narrow = () => {
    const result = radios.find((radio) => radio.checked).value;
    let shown = 0;
    for (const one of cases) {
      const fits = (!wanted.value || one.dataset.places.split(" ").includes(wanted.value)) && (!result || one.dataset.result === result);
      one.hidden = !fits;
      shown += fits;
    }
    for (const shelf of shelves) shelf.hidden = !shelf.querySelector(".case:not([hidden])");
    count.textContent = shown ? `${shown} of ${cases.length} queries are shown.` : "No query fits; choose another label or result.";
  };
  filters.hidden = false;
  filters.addEventListener("change", narrow);
  filters.querySelector("button").addEventListener("click", () => {
    wanted.value = "";
    radios[0].checked = true;
    narrow();
  });
  narrow(); // a browser may have kept what was chosen before the page was loaded again
}
