package sys

const nrGetrandom = 318

// NrSetns is not among the numbers of the standard library.
const NrSetns = 308
