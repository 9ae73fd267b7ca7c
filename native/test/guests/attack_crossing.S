// Each attack across the end of a page, at each of its bytes: nops run up to it from a page that was
// run natively before.
#include "user_mode.inc"
#include "attacks.inc"
  USER_MODE_KERNEL
  SCRATCH

// The code in front of the instruction fills its page but for the first `before` bytes of it.
.macro CROSSING before, bytes:vararg
  .balign 4096
  BURN
  SET_UP
  ON_FAULT 3f
  jmp 2f
  .balign 4096
  .skip 4096 - 64 - \before, 0x90
2:
  .skip 64, 0x90
  .byte \bytes
  FOLD
  SAY_RAX
  jmp 4f
3:
  BURN
4:
.endm

.macro ATTACK name, bytes:vararg
  SAY "\name "
  CROSSING 1, \bytes
  SAY "\name again "
  CROSSING 2, \bytes
.endm

  .balign 4096
user:
  ALL_ATTACKS
  END_GUEST
