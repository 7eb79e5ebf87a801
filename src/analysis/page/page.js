// A click, Enter or Space on a column's head sorts its table by it; once more, the other way round.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const body = head.closest("table").tBodies[0];
    const falling = head.getAttribute("aria-sort") === "ascending";
    const value = (row) => {
      const cell = row.cells[head.cellIndex];
      if (!("value" in cell.dataset)) return cell.textContent;
      return cell.dataset.value === "-inf" ? -Infinity : Number(cell.dataset.value);
    };
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      return typeof x === "number" && typeof y === "number" ? (x > y) - (x < y) : String(x).localeCompare(String(y));
    };
    const rows = [...body.rows].sort((a, b) => (falling ? order(b, a) : order(a, b)));
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    body.append(...rows);
  });
}

// A point of a figure says what it is.
const tip = document.getElementById("tip");
document.addEventListener("pointerover", ({ target }) => {
  tip.hidden = !target.matches?.(".spot");
  if (tip.hidden) return;
  tip.textContent = target.dataset.tip;
  const spot = target.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(spot.left, document.documentElement.clientWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${spot.top > tip.offsetHeight + 8 ? spot.top - tip.offsetHeight - 4 : spot.bottom + 4}px`;
});

// What is folded opens when it is linked to, or printed.
const unfold = () => document.getElementById(location.hash.slice(1))?.setAttribute("open", "");
addEventListener("hashchange", unfold);
unfold();
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
  for (const image of document.images) image.loading = "eager";
});
