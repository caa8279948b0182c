package sys

const nrGetrandom = 278

// NrSetns is not among the numbers of the standard library.
const NrSetns = 268
