package sys

const nrGetrandom = 278

// Numbers that the standard library does not have.
const (
	NrSetns          = 268
	NrProcessVMReadv = 270
)
