package machine

const nrSyncfs = 306
