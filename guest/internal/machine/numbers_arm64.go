package machine

const nrSyncfs = 267
