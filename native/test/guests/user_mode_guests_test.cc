// The guests that attack determinism from user mode, in the software CPU: each instruction has one
// fate, wherever it stands. That logs of them replay, on any engine, is the matrix' business.
#include <doctest/doctest.h>

#include <map>
#include <sstream>

#include "test/guests/tiny_guest.h"

namespace node_mesh {
namespace {

std::vector<std::string> lines_of(std::string_view name) {
  TinyGuest guest(name);
  CHECK(guest.run() == MachineExit::ended);
  CHECK(guest.machine().end() == GuestEnd::poweroff);
  std::istringstream text(guest.console());
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);)
    lines.push_back(line);
  return lines;
}

// What user code of the CPU model gets; the others leave a number.
const std::map<std::string, std::string>& fates() {
  static const std::map<std::string, std::string> all = [] {
    std::map<std::string, std::string> fate;
    for (const char* name :
         {"rdtscp",   "rdrand",     "rdseed", "rdpid",       "rdpru",      "xgetbv",   "xsave",
          "rdfsbase", "wrgsbase",   "rdpkru", "vmcall",      "vmmcall",    "monitorx", "clzero",
          "xtest",    "vzeroupper", "vmovd",  "evex_vpxorq", "andn",       "rorx",     "movbe",
          "adcx",     "aesenc",     "pclmul", "sha1nexte",   "clflushopt", "extrq",    "ud2"}) {
      fate[name] = "#UD";
    }
    for (const char* name : {"rdpmc", "hlt", "cli", "swapgs"})
      fate[name] = "#GP 0000000000000000";
    fate["int80_of_none"] = "#GP 000000000000040a";
    fate["int1"] = "#DB";
    fate["int3"] = "#BP";
    for (const char* name :
         {"rdtsc",     "rdtsc_prefixed", "cpuid", "sgdt",  "sidt",        "sldt",
          "str",       "smsw",           "lar",   "lsl",   "mov_from_ds", "mov_from_cs",
          "mov_to_fs", "tzcnt",          "lzcnt", "rcpss", "fxsave",      "fnstenv",
          "fsin",      "in_al_dx"}) {
      fate[name] = "number";
    }
    return fate;
  }();
  return all;
}

bool is_number(const std::string& text) {
  return text.size() == 16 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

void check_fate(const std::string& name, const std::string& found) {
  const auto fate = fates().find(name);
  if (fate == fates().end()) return;
  CAPTURE(name);
  CAPTURE(found);
  CHECK((fate->second == "number" ? is_number(found) : found == fate->second));
}

TEST_CASE("attacks: plain, across pages, generated, hidden: the same fate everywhere") {
  for (const char* guest :
       {"attack_plain", "attack_crossing", "attack_generated", "attack_hidden"}) {
    CAPTURE(guest);
    const auto lines = lines_of(guest);
    CHECK(lines.size() >= 50);
    std::string name;
    for (const std::string& line : lines) {
      if (line.starts_with(' ')) {
        check_fate(name, line.substr(line.find("loop") + 5));
        continue;
      }
      // A line without a name repeats the attack before it.
      if (line.starts_with('#') || is_number(line)) {
        check_fate(name, line);
        continue;
      }
      name = line.substr(0, line.find(' '));
      const std::string rest = line.substr(name.size() + 1);
      check_fate(name, rest.starts_with("again ") ? rest.substr(6) : rest);
    }
  }
}

TEST_CASE("two_mappings: what is written through one address runs and reads at the other") {
  const auto lines = lines_of("two_mappings");
  REQUIRE(lines.size() == 10);
  CHECK(lines[0] == "returned 0000000000000063");
  for (int round = 1; round <= 7; ++round) {
    CHECK(lines[static_cast<std::size_t>(round)] ==
          "returned 000000000000000" + std::to_string(9 - round));
  }
  CHECK(lines[9] == "data 00000000001e8868");
}

TEST_CASE("user_states: flags that trap, addresses, bases, floating point, 32 bits") {
  std::string text;
  for (const std::string& line : lines_of("user_states")) {
    // What depends on the machine's memory, or on flags that the architecture leaves undefined.
    if (!line.starts_with("low memory") && !line.starts_with("after")) text += line + "\n";
  }
  CHECK(text ==
        "aligned went through 1122334455667788\n"
        "misaligned load #AC 0000000000000000\n"
        "misaligned store #AC 0000000000000000\n"
        "misaligned without went through 0000000044556677\n"
        "single step #DB\n"
        "0000000000000001\n"
        "icebp #DB\n"
        "kernel half #PF 0000000000000004\n"
        "not canonical #GP 0000000000000000\n"
        "stack not canonical #PF 0000000000000006\n"
        "top of the lower half #PF 0000000000000006\n"
        "jump to the kernel half #PF 0000000000000014\n"
        "jump not canonical #GP 0000000000000000\n"
        "written 0000000000001234\n"
        "code there 000000000000002a\n"
        "x87 #UD\n"
        "91091822daef5ce3\n"
        "sse 40052a7fa9d2f8ea\n"
        "status 0000000000000020\n"
        "mxcsr 0000000000001fa0\n"
        "by zero #DE\n"
        "too large #DE\n"
        "by three went through 0000000000000021\n"
        "32 bits 00000000000007d0\n");
}

}  // namespace
}  // namespace node_mesh
