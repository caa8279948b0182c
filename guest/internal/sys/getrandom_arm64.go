package sys

const nrGetrandom = 278
