package sys

const nrGetrandom = 318

// Numbers that the standard library does not have.
const (
	NrSetns          = 308
	NrProcessVMReadv = 310
)
