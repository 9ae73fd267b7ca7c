// Each tiny guest in the machine: what it prints, how it ends, and that neither depends on where
// runs are cut.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "test/guests/tiny_guest.h"

namespace node_mesh {
namespace {

void check_end(TinyGuest& guest, GuestEnd end) {
  CAPTURE(guest.console());
  CAPTURE(guest.machine().report());
  REQUIRE(guest.run() == MachineExit::ended);
  CHECK(guest.machine().end() == end);
}

TEST_CASE("hello: prints and switches off") {
  TinyGuest guest("hello");
  check_end(guest, GuestEnd::poweroff);
  CHECK(guest.console() == "hello from a tiny guest\n");
  CHECK(guest.machine().console_bytes() == 24);
}

TEST_CASE("pit_timer: sleeps exactly as long as the timer says") {
  TinyGuest guest("pit_timer");
  check_end(guest, GuestEnd::poweroff);
  CHECK(guest.console() == "ticks 10\nticks 20\nticks 30\nticks 40\nticks 50\n");
  CHECK(guest.machine().guest_ns() > 49'900'000);
  CHECK(guest.machine().guest_ns() < 50'200'000);
}

TEST_CASE("lapic_timer: all modes") {
  TinyGuest guest("lapic_timer");
  check_end(guest, GuestEnd::poweroff);
  CHECK(guest.console() == "self got it, one-shot periodic deadline 11\n");
  CHECK(guest.machine().guest_ns() > 11'000'000);
  CHECK(guest.machine().guest_ns() < 11'200'000);
}

TEST_CASE("echo: typed input comes back and ends it") {
  TinyGuest guest("echo");
  CHECK(guest.run() == MachineExit::idle);
  CHECK(guest.machine().next_deadline_ns() == UINT64_MAX);
  guest.type("Hello, world: more than sixteen characters");
  CHECK(guest.run() == MachineExit::idle);
  guest.type("q");
  check_end(guest, GuestEnd::poweroff);
  CHECK(guest.console() == "type\nHello, world: more than sixteen charactersq\nbye after 43\n");
}

TEST_CASE("read_time: time goes on and a halt for ever is the end") {
  TinyGuest guest("read_time");
  check_end(guest, GuestEnd::halted_forever);
  CHECK(guest.console().ends_with("halted\n"));
  std::uint64_t last = 0;
  std::size_t at = 0;
  for (int line = 0; line < 20; ++line) {
    const std::uint64_t time = std::stoull(guest.console().substr(at, 16), nullptr, 16);
    CHECK(time > last);
    if (line > 0) CHECK(time - last >= 200'000);
    last = time;
    CHECK(guest.console().substr(at + 17, 16) == "0000000000000020");  // :20 by the start time
    at = guest.console().find('\n', at) + 1;
  }
}

TEST_CASE("exceptions: addresses, error codes, CR2") {
  TinyGuest guest("exceptions");
  check_end(guest, GuestEnd::poweroff);
  CHECK(guest.console() ==
        "#DE at +7 cr2 0000000000000000\n"
        "#BP at +1 cr2 0000000000000000\n"
        "#UD at +0 cr2 0000000000000000\n"
        "#PF 0000000000000000 at +10 cr2 0000001234567890\n"
        "#PF 0000000000000002 at +10 cr2 ffff800000000008\n"
        "#GP 0000000000000000 at +10 cr2 ffff800000000008\n"
        "#GP 0000000000000040 at +4 cr2 ffff800000000008\n"
        "#PF 0000000000000000 at +10 cr2 0000000200000000\n"
        "all done\n");
}

// The sum that user_syscalls.S computes, written again.
std::uint64_t user_sum() {
  std::uint64_t sum = 0;
  for (int call = 0; call < 150; ++call) {
    for (std::uint64_t i = 500; i > 0; --i) {
      sum = sum * 0x5bd1e995 + i + 12345;
      sum = sum << 13 | sum >> 51;
    }
    sum ^= sum * 3 + 1;
    sum += sum * 5 + 7;
    sum += 3;
  }
  return sum;
}

TEST_CASE("user_syscalls: both ways into the kernel and a fault") {
  TinyGuest guest("user_syscalls");
  check_end(guest, GuestEnd::poweroff);
  char expected[100];
  std::snprintf(expected, sizeof expected,
                "user page fault, error 0000000000000006\nsum %016llx\ncalls 300\n",
                static_cast<unsigned long long>(user_sum()));
  CHECK(guest.console() == expected);
}

TEST_CASE("self_modifying: what was written runs") {
  TinyGuest guest("self_modifying");
  check_end(guest, GuestEnd::poweroff);
  CHECK(guest.console() == "sum 55\n1111\n2222\n7777\n");
}

TEST_CASE("triple_fault: ends with a report") {
  TinyGuest guest("triple_fault");
  check_end(guest, GuestEnd::triple_fault);
  CHECK(guest.console() == "about to fault thrice\n");
  CHECK_FALSE(guest.machine().report().empty());
}

TEST_CASE("unknown: MSRs fault, ports and addresses read as ones, the reset ends it") {
  TinyGuest guest("unknown");
  check_end(guest, GuestEnd::reboot);
  CHECK(guest.console() ==
        "#GP 0000000000000000\n#GP 0000000000000000\n00000000ffffffff\nffffffffffffffff\n"
        "0000000065646f4e\n");
}

// One clock event: where it was, and what it set.
struct Tick {
  Position position;
  ClockSetting setting;
};

TEST_CASE("user_spin: interrupts inside of user code come again at the same instruction") {
  TinyGuest first("user_spin");
  std::vector<Tick> ticks;
  {
    std::atomic<bool> over = false;
    std::jthread kicker([&] {
      while (!over) {
        std::this_thread::sleep_for(std::chrono::microseconds(300));
        first.machine().request_stop();
      }
    });
    MachineExit exit;
    while ((exit = first.run()) == MachineExit::kicked) {
      const ClockSetting setting{first.machine().guest_ns() + 400'000, 1ull << 32};
      ticks.push_back({first.machine().position(), setting});
      first.machine().set_clock(setting);
    }
    over = true;
    CHECK(exit == MachineExit::ended);
  }
  CAPTURE(first.console());
  CHECK(first.machine().end() == GuestEnd::poweroff);
  CHECK(first.console().find("tick 20 loops") != std::string::npos);

  TinyGuest second("user_spin");
  for (const Tick& tick : ticks) {
    REQUIRE(second.run(tick.position) == MachineExit::limit);
    REQUIRE(second.machine().position() == tick.position);
    second.machine().set_clock(tick.setting);
  }
  CHECK(second.run() == MachineExit::ended);
  CHECK(second.fingerprint() == first.fingerprint());
}

TEST_CASE("where runs are cut changes nothing") {
  for (const char* name :
       {"pit_timer", "lapic_timer", "exceptions", "user_syscalls", "self_modifying", "unknown"}) {
    CAPTURE(name);
    TinyGuest whole(name);
    CHECK(whole.run() == MachineExit::ended);
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      CAPTURE(seed);
      std::mt19937_64 random(seed);
      TinyGuest cut(name);
      MachineExit exit = MachineExit::limit;
      while (exit == MachineExit::limit) {
        Position limit = cut.machine().position();
        if (random() % 3 == 0) {
          limit.user_steps += 1 + random() % 700;
        } else {
          limit = {limit.steps + 1 + random() % 60, 0};
        }
        exit = cut.run(limit);
        CHECK((exit != MachineExit::limit || cut.machine().position() >= limit));
      }
      CHECK(cut.fingerprint() == whole.fingerprint());
    }
  }
}

TEST_CASE("time may be set at any position") {
  // A clock event before each of many steps: time must never run backwards for the guest, and the
  // same events give the same run.
  const auto run = [](TinyGuest& guest) {
    std::mt19937_64 random(5);
    while (guest.run({guest.machine().position().steps + 1 + random() % 5000, 0}) ==
           MachineExit::limit) {
      guest.machine().set_clock(
          {guest.machine().guest_ns() + random() % 100'000, random() % (3ull << 32)});
    }
  };
  TinyGuest first("read_time"), second("read_time");
  run(first);
  run(second);
  CHECK(first.machine().end() == GuestEnd::halted_forever);
  CHECK(first.fingerprint() == second.fingerprint());
}

}  // namespace
}  // namespace node_mesh
