// Scores of search results: guides rank above the reference, which is made from the code.
var Scorer = {
  score: ([docname, title, anchor, descr, score]) =>
    docname.startsWith("reference/") ? score - 100 : score,
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
