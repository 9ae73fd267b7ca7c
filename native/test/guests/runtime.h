// What tiny guests share: ports, selectors and the routines of runtime.S. Guests start in 64-bit
// mode at CPL 0 with interrupts off and the first 4 GiB mapped one to one.
#pragma once

#define COM1 0x3f8
#define KERNEL_CODE 0x10
#define KERNEL_DATA 0x18
#define USER_DATA 0x23
#define USER_CODE 0x2b
#define TSS_SELECTOR 0x30

// Vectors that the 8259s are set to.
#define IRQ_BASE 0x20

#define GATE_KERNEL 0x8e
#define GATE_USER 0xee

.macro GATE vector, handler, type = GATE_KERNEL mov $\vector, % edi lea \handler(% rip),
                             % rsi mov $\type, % edx call set_gate
                                                       .endm

                                                       .macro PRINT text lea 9990f(% rip),
                             % rsi call put_string.section.rodata 9990 :.asciz "\text".text
                                                                            .endm

                                                                            .macro OUT_BYTE port,
                             value mov $\port, % edx mov $\value, % al out % al, % dx.endm
