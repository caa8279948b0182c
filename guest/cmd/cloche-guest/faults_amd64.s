#include "textflag.h"

// The kernel calls it with the signal in DI, siginfo in SI and the context in DX. It returns to the restorer.
TEXT filter<>(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVL 8(SI), AX
	CMPL AX, $0
	JLE  drop
	MOVQ ·runtimeHandler(SB), AX
	JMP  AX
drop:
	RET

GLOBL ·filterAddress(SB), RODATA, $8
DATA ·filterAddress(SB)/8, $filter<>(SB)
