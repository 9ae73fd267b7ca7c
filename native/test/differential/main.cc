// The differential test: random instructions and short programs run on the host's CPU and on the
// software CPU (or on the native stubs alone); every register, flag, memory byte and exception must
// agree. A case is a function of the seed, the group and its index; a failure prints all three and
// the command that shows it again.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "test/differential/case_maker.h"
#include "test/differential/expectation.h"
#ifdef NM_DIFFERENTIAL_CPU
#include "test/differential/guest_runner.h"
#endif
#include "test/differential/native_runner.h"
#include "test/differential/stub_runner.h"

namespace node_mesh::differential {
namespace {

struct Options {
  std::uint64_t seed = 1;
  std::uint64_t cases = 4000;  // of each group
  std::uint64_t programs = 2000;
  std::string only_group;
  std::int64_t only_index = -1;
  bool stubs = false;
  bool counts = false;
  unsigned failures_shown = 12;
};

constexpr int undefined_instruction = 6;

struct Tally {
  std::uint64_t run = 0, skipped = 0, failed = 0;
};

std::uint64_t case_seed(std::uint64_t seed, std::uint64_t group, std::uint64_t index) {
  return Random(seed * 1000003 + group).next() ^ Random(index).next();
}

class Session {
 public:
  explicit Session(const Options& options) : options_(options) {}

  void run_group(Group group) {
    const auto name = group_names[static_cast<std::size_t>(group)];
    run_cases(std::string(name), static_cast<std::uint64_t>(group), options_.cases, &group);
  }

  void run_programs() {
    if (!options_.stubs) run_cases("program", 99, options_.programs, nullptr);
  }

  bool report() const {
    std::uint64_t failed = 0;
    for (const auto& [name, tally] : groups_) {
      std::printf("%-8s %9llu run %8llu skipped %6llu failed\n", name.c_str(),
                  static_cast<unsigned long long>(tally.run),
                  static_cast<unsigned long long>(tally.skipped),
                  static_cast<unsigned long long>(tally.failed));
      failed += tally.failed;
    }
    std::printf("%zu mnemonics, seed %llu\n", mnemonics_.size(),
                static_cast<unsigned long long>(options_.seed));
    for (const auto& [mnemonic, tally] : mnemonics_) {
      if (!options_.counts && tally.failed == 0) continue;
      std::printf("  %-12s %7llu run %6llu skipped %6llu failed\n", mnemonic.c_str(),
                  static_cast<unsigned long long>(tally.run),
                  static_cast<unsigned long long>(tally.skipped),
                  static_cast<unsigned long long>(tally.failed));
    }
    return failed == 0;
  }

 private:
  // `group` null: programs.
  void run_cases(const std::string& name, std::uint64_t number, std::uint64_t count,
                 const Group* group) {
    if (!options_.only_group.empty() && options_.only_group != name) return;
    std::uint64_t first = 0;
    if (options_.only_index >= 0) {
      first = static_cast<std::uint64_t>(options_.only_index);
      count = first + 1;
    }
    for (std::uint64_t base = first; base < count; base += batch_cases) {
      const std::size_t size = std::min<std::uint64_t>(batch_cases, count - base);
      std::vector<Decoded> decoded(size);
      for (std::size_t i = 0; i < size; ++i) {
        Random random(case_seed(options_.seed, number, base + i));
        if (group != nullptr) {
          decoded[i] = make_case(source_, *group, random, native_.input(i));
        } else {
          make_program(source_, random, native_.input(i));
        }
      }
      if (group == nullptr || *group != Group::absent) native_.run(size);
      for (std::size_t i = 0; i < size; ++i) {
        check(name, base + i, native_.input(i), group == nullptr ? nullptr : &decoded[i],
              group != nullptr && *group == Group::absent ? nullptr : &native_.output(i));
      }
    }
  }

  bool run_subject(const Case& test, const Decoded* instruction, Outcome& outcome) {
    if (options_.stubs) {
      return instruction != nullptr && stubs_.run(test, *instruction, outcome);
    }
#ifdef NM_DIFFERENTIAL_CPU
    guest_.run(test, outcome);
    return true;
#else
    return false;
#endif
  }

  // `native` null: the instruction is not in the CPU model and must raise #UD.
  void check(const std::string& name, std::uint64_t index, const Case& test,
             const Decoded* instruction, const Outcome* native) {
    Tally& tally = groups_[name];
    Tally& mnemonic =
        mnemonics_[instruction == nullptr ? "(program)" : std::string(instruction->mnemonic())];
    auto actual = std::make_unique<Outcome>();
    auto expected = std::make_unique<Outcome>();
    if (native != nullptr) *expected = *native;
    const bool compared = run_subject(test, instruction, *actual) &&
                          (native == nullptr || expect(test, instruction, *actual, *expected));
    if (!compared) {
      ++tally.skipped;
      ++mnemonic.skipped;
      return;
    }
    ++tally.run;
    ++mnemonic.run;
    const std::string text =
        native != nullptr ? differences(*expected, *actual)
        : actual->vector == undefined_instruction
            ? ""
            : "    vector: expected 6, got " + std::to_string(actual->vector) + "\n";
    if (text.empty()) return;
    ++tally.failed;
    if (++mnemonic.failed <= 2 && shown_++ < options_.failures_shown) {
      std::printf("FAILED %s case %llu; again: --seed %llu --group %s --index %llu\n%s%s",
                  name.c_str(), static_cast<unsigned long long>(index),
                  static_cast<unsigned long long>(options_.seed), name.c_str(),
                  static_cast<unsigned long long>(index), describe(test, instruction).c_str(),
                  text.c_str());
    }
  }

  Options options_;
  InstructionSource source_;
  NativeRunner native_;
  StubRunner stubs_;
#ifdef NM_DIFFERENTIAL_CPU
  GuestRunner guest_;
#endif
  std::map<std::string, Tally> groups_, mnemonics_;
  unsigned shown_ = 0;
};

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Compares the software CPU with the host's, instruction by instruction");
  app.add_option("--seed", options.seed, "Seed of all cases");
  app.add_option("--cases", options.cases, "Single instructions of each group");
  app.add_option("--programs", options.programs, "Short programs");
  app.add_option("--group", options.only_group, "Only this group (or \"program\")");
  app.add_option("--index", options.only_index, "Only this case of the group");
  app.add_option("--show", options.failures_shown, "Failures to print");
  app.add_flag("--stubs", options.stubs, "Test the native stubs alone");
  app.add_flag("--counts", options.counts, "Print how often each mnemonic ran");
  CLI11_PARSE(app, argc, argv);
  Session session(options);
  for (std::size_t i = 0; i < group_names.size(); ++i) {
    const auto group = static_cast<Group>(i);
    // Stubs are asked only for what they take; #UD is the CPU's to raise.
    if (options.stubs && group == Group::absent) continue;
    session.run_group(group);
  }
  session.run_programs();
  return session.report() ? 0 : 1;
}

}  // namespace
}  // namespace node_mesh::differential

int main(int argc, char** argv) { return node_mesh::differential::run(argc, argv); }
