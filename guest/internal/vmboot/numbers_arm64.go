package vmboot

const nrFinitModule = 273
