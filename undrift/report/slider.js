for (const compare of document.querySelectorAll(".compare")) {
  const view = compare.querySelector(".view");
  const range = view.querySelector("input");
  const afters = [...view.querySelectorAll(".after")];
  const buttons = [...compare.querySelectorAll("button")];
  range.addEventListener("input", () => view.style.setProperty("--at", range.value + "%"));
  buttons.forEach((button, chosen) =>
    button.addEventListener("click", () => {
      afters.forEach((image, i) => (image.hidden = i !== chosen));
      buttons.forEach((each, i) => each.setAttribute("aria-pressed", i === chosen));
      view.querySelector(".right").textContent = button.textContent;
    }),
  );
}
