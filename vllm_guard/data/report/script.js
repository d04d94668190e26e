"use strict";
// Rows that do not hold the words searched for are hidden; sections with none left, too.
const search = document.getElementById("search");
const found = document.getElementById("found");
const rows = [...document.querySelectorAll("tbody tr, .log li, dl")].map((row) => [row, row.textContent.toLowerCase()]);

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const [row, text] of rows) {
    const matches = words.every((word) => text.includes(word));
    row.classList.toggle("hidden", !matches);
    shown += matches;
  }
  for (const section of document.querySelectorAll("section")) {
    const own = section.querySelectorAll("tbody tr, .log li, li[value], dl");
    const empty = own.length > 0 && [...own].every((row) => row.classList.contains("hidden"));
    section.classList.toggle("hidden", words.length > 0 && empty);
  }
  found.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
}

search.addEventListener("input", filter);
