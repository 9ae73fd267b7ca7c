// What may become a stub and what may not.
#include <doctest/doctest.h>

#include "cpu/stub/test/stub_harness.h"

namespace node_mesh {

TEST_CASE("instructions that reach memory, the stack or control by themselves are refused") {
  StubHarness h;
  CHECK(h.find({0x50}) == nullptr);              // push rax
  CHECK(h.find({0xc3}) == nullptr);              // ret
  CHECK(h.find({0xe8, 0, 0, 0, 0}) == nullptr);  // call
  CHECK(h.find({0xa4}) == nullptr);              // movsb
  CHECK(h.find({0xd7}) == nullptr);              // xlat
  CHECK(h.find({0x48, 0xf7, 0xf1}) == nullptr);  // div rcx
  CHECK(h.find({0x0f, 0xa3, 0x08}) == nullptr);  // bt [rax], ecx
  CHECK(h.find({0x0f, 0xae, 0x00}) == nullptr);  // fxsave
  CHECK(h.find({0x0f, 0xae, 0x10}) == nullptr);  // ldmxcsr
  CHECK(h.find({0x8e, 0xd8}) == nullptr);        // mov ds, eax
  CHECK(h.find({0x0f, 0x22, 0xc0}) == nullptr);  // mov cr0, rax
  CHECK(h.find({0x0f, 0xa2}) == nullptr);        // cpuid
  CHECK(h.find({0x0f, 0x05}) == nullptr);        // syscall
  CHECK(h.find({0xfc}) == nullptr);              // cld
  CHECK(h.find({0x48, 0x8d, 0x00}) == nullptr);  // lea
}

TEST_CASE("instructions beyond the CPU model are refused") {
  StubHarness h;
  CHECK(h.find({0xc5, 0xf8, 0x58, 0xc1}) == nullptr);           // vaddps
  CHECK(h.find({0x66, 0x0f, 0x38, 0xdc, 0xc1}) == nullptr);     // aesenc
  CHECK(h.find({0x66, 0x0f, 0x3a, 0x44, 0xc1, 0}) == nullptr);  // pclmulqdq
  CHECK(h.find({0x0f, 0x38, 0xf0, 0x00}) == nullptr);           // movbe
  CHECK(h.find({0x0f, 0xc7, 0xf0}) == nullptr);                 // rdrand
  CHECK(h.find({0x66, 0x0f, 0x38, 0xf6, 0xc1}) == nullptr);     // adcx
  CHECK(h.find({0x0f, 0x38, 0xc8, 0xc1}) == nullptr);           // sha1nexte
  CHECK(h.find({0xf3, 0x0f, 0x2b, 0x00}) == nullptr);           // movntss
  CHECK(h.find({0x66, 0x0f, 0xae, 0x38}) == nullptr);           // clflushopt
}

TEST_CASE("the same bytes share a stub whatever forms the address") {
  StubHarness h;
  const Stub* stub = h.find({0x0f, 0x58, 0x00});  // addps xmm0, [rax]
  REQUIRE(stub != nullptr);
  CHECK(stub == h.find({0x0f, 0x58, 0x05, 1, 2, 3, 4}));              // [rip + ...]
  CHECK(stub == h.find({0x64, 0x67, 0x0f, 0x58, 0x44, 0x88, 0x10}));  // fs:[eax + ecx*4 + 16]
  CHECK(stub != h.find({0x0f, 0x58, 0x08}));                          // another register
  CHECK(stub->memory_bytes == 16);
  CHECK(stub->reads_memory);
  CHECK_FALSE(stub->writes_memory);
  CHECK(stub->needs_alignment);
  CHECK(stub->unit == StubUnit::sse);
  CHECK_FALSE(h.find({0x0f, 0x10, 0x00})->needs_alignment);  // movups
}

TEST_CASE("hints have no memory operand; the whole FPU state fits the bounce buffer") {
  StubHarness h;
  CHECK(h.find({0x0f, 0x18, 0x08})->memory_bytes == 0);              // prefetcht0
  CHECK(h.find({0x0f, 0x1f, 0x44, 0x00, 0x00})->memory_bytes == 0);  // nop [rax+rax]
  CHECK(h.find({0xf3, 0x0f, 0x1e, 0xfa})->memory_bytes == 0);        // endbr64
  CHECK(h.find({0x0f, 0xae, 0x38})->memory_bytes == 1);              // clflush
  CHECK(h.find({0xdd, 0x30})->memory_bytes == 108);                  // fnsave
}

TEST_CASE("a full cache can be cleared and goes on") {
  StubHarness h;
  h.gpr[1] = 7;
  CHECK_FALSE(h.cache.full());
  h.run({0xf3, 0x0f, 0xb8, 0xc1});  // popcnt eax, ecx
  CHECK(h.gpr[0] == 3);
  h.cache.clear();
  h.gpr[1] = 15;
  h.run({0xf3, 0x0f, 0xb8, 0xc1});
  CHECK(h.gpr[0] == 4);
}

}  // namespace node_mesh
