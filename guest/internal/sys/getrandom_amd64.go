package sys

const nrGetrandom = 318
