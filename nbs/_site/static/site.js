// Small enhancements: labels for arrows, images that open in full size, tables that are sorted by their headings (first press ascending, second descending).
document.addEventListener("DOMContentLoaded", () => {
  // label the sidebar's arrows for screen readers
  for (const arrow of document.querySelectorAll(".bd-links summary")) {
    const page = arrow.closest("li").querySelector("a");
    arrow.setAttribute("aria-label", `Pages of ${page ? page.textContent.trim() : "this part"}`);
  }
  // a figure opens in full size, which a phone cannot show within the text
  for (const image of document.querySelectorAll(".bd-article img:not(a img):not(.hero img):not([hidden])")) {
    const link = document.createElement("a");
    link.className = "picture";
    link.href = image.src;
    image.replaceWith(link);
    link.append(image);
  }
  // a number, or an interval such as 1.63-1.88, stays on one line
  for (const cell of document.querySelectorAll(".bd-article td")) {
    if (/^[-+]?\d[\d.,%]*(\s?[-\u2013]\s?[-+]?\d[\d.,%]*)?$/.test(cell.textContent.trim())) cell.style.whiteSpace = "nowrap";
  }
  for (const table of document.querySelectorAll("table.sortable:has(button)")) {
    const headings = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    headings.forEach((heading, column) => {
      heading.querySelector("button").addEventListener("click", () => {
        const up = heading.getAttribute("aria-sort") !== "ascending";
        const value = (row) => row.cells[column].dataset.value;
        const numbers = [...body.rows].every((row) => value(row) === "" || !Number.isNaN(Number(value(row))));
        const order = (a, b) => (numbers ? Number(value(a)) - Number(value(b)) : value(a).localeCompare(value(b)));
        const rows = [...body.rows].sort((a, b) => (up ? order(a, b) : order(b, a)));
        body.append(...rows);
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      });
    });
  }
});
