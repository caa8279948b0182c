#include "textflag.h"

// The kernel calls it with the signal in R0, siginfo in R1 and the context in R2. It returns to what the kernel left in
// the link register.
TEXT filter<>(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVW 8(R1), R9
	CMPW $0, R9
	BLE  drop
	MOVD ·runtimeHandler(SB), R9
	JMP  (R9)
drop:
	RET

GLOBL ·filterAddress(SB), RODATA, $8
DATA ·filterAddress(SB)/8, $filter<>(SB)
