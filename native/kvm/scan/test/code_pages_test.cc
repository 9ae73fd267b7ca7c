// What becomes of a page with suspects as the software CPU runs its code.
#include "kvm/scan/code_pages.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <initializer_list>

namespace node_mesh {
namespace {

class Code {
 public:
  Code() { bytes_.fill(0x90); }
  Code& at(std::size_t offset, std::initializer_list<std::uint8_t> bytes) {
    std::ranges::copy(bytes, bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
    return *this;
  }
  CodePageBytes page() const { return bytes_; }

 private:
  std::array<std::uint8_t, code_page_bytes> bytes_;
};

constexpr std::uint64_t gfn = 7;

TEST_CASE("a page without hazards is clean at once") {
  CodePages pages({});
  CHECK(pages.clean(gfn, Code().page()));
  CHECK_FALSE(pages.blocked(gfn));
}

TEST_CASE("a page with a real one never is") {
  CodePages pages({});
  const Code code = Code().at(0x100, {0x0f, 0x31}).at(0x102, {0xc3});
  CHECK_FALSE(pages.clean(gfn, code.page()));
  CHECK(pages.blocked(gfn));
  CHECK_FALSE(pages.executed(gfn, 0x80, code.page()));
  CHECK_FALSE(pages.clean(gfn, code.page()));
  pages.forget(gfn);
  CHECK_FALSE(pages.blocked(gfn));
  CHECK(pages.clean(gfn, Code().page()));
}

// Bytes that no stream disagrees about: a table of data in front hides the true start.
Code ambiguous() {
  Code code;
  code.at(0x200, {0xc3});
  for (std::size_t at = 0x201; at < 0x240; ++at)
    code.at(at, {0x06});  // no instruction
  // b8 0f 31 00 00: mov $0x310f, %eax
  return code.at(0x240, {0xb8, 0x0f, 0x31, 0, 0, 0xc3});
}

TEST_CASE("an instruction that ran and covers it dismisses a suspect") {
  CodePages pages({});
  const Code code = ambiguous();
  CHECK_FALSE(pages.clean(gfn, code.page()));
  CHECK(pages.open_suspects(gfn).size() == 1);
  CHECK(pages.executed(gfn, 0x240, code.page()));
  CHECK(pages.clean(gfn, code.page()));
}

TEST_CASE("what follows from an instruction that ran dismisses too") {
  CodePages pages({});
  Code code = ambiguous();
  code.at(0x10, {0xe9, 0x2b, 0x02, 0, 0});  // jmp 0x240
  CHECK_FALSE(pages.clean(gfn, code.page()));
  CHECK(pages.executed(gfn, 0x10, code.page()));
}

TEST_CASE("a hazard reached by a direct branch is real") {
  CodePages pages({});
  Code code = ambiguous();
  code.at(0x10, {0x74, 0x01}).at(0x12, {0xc3});            // je 0x13, over a return
  code.at(0x13, {0xe9, 0x29, 0x02, 0, 0});                 // jmp 0x241: into the mov
  CHECK_FALSE(pages.executed(gfn, 0x240, Code().page()));  // unknown yet
  CHECK_FALSE(pages.clean(gfn, code.page()));
  CHECK_FALSE(pages.executed(gfn, 0x10, code.page()));
  CHECK_FALSE(pages.executed(gfn, 0x240, code.page()));
  CHECK(pages.blocked(gfn));
}

TEST_CASE("overlapping instructions keep a page with hidden bytes in software") {
  CodePages pages({});
  // Two suspects: one hidden in a mov that runs, one plausible elsewhere that another mov covers.
  Code code = ambiguous();
  code.at(0x300, {0xb8, 0xeb, 0x01, 0x0f, 0x31, 0xc3});  // mov; or, one byte on: jmp over 0f
  CHECK_FALSE(pages.clean(gfn, code.page()));
  CHECK_FALSE(pages.executed(gfn, 0x301, code.page()));
  CHECK_FALSE(pages.executed(gfn, 0x300, code.page()));
  CHECK_FALSE(pages.executed(gfn, 0x240, code.page()));
  CHECK(pages.blocked(gfn));
}

TEST_CASE("a jump over a LOCK prefix hides nothing") {
  CodePages pages({});
  Code code = ambiguous();
  code.at(0x20, {0x74, 0x01, 0xf0, 0x0f, 0xb1, 0x0f, 0xe9, 0x15, 0x02, 0, 0});
  CHECK_FALSE(pages.clean(gfn, code.page()));
  CHECK(pages.executed(gfn, 0x20, code.page()));
}

}  // namespace
}  // namespace node_mesh
