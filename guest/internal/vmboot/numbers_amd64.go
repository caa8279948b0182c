package vmboot

const nrFinitModule = 313
