#include "devices/rtc/rtc.h"

#include "devices/test/bench.h"

namespace node_mesh {
namespace {

constexpr std::uint64_t second = 1'000'000'000;
// 2024-02-28 23:59:30 UTC, a Wednesday before a leap day.
constexpr std::uint64_t start = 1'709'164'770 * second;

struct RtcBench {
  RecordedLines lines;
  Rtc rtc{lines, start};
  std::uint64_t now = 0;
  void out(unsigned index, unsigned value) {
    rtc.write(0x70, 1, index, now);
    rtc.write(0x71, 1, value, now);
  }
  unsigned in(unsigned index) {
    rtc.write(0x70, 1, index, now);
    return rtc.read(0x71, 1, now);
  }
  void check_time(unsigned hour, unsigned minute, unsigned sec) {
    CHECK(in(4) == hour);
    CHECK(in(2) == minute);
    CHECK(in(0) == sec);
  }
};

TEST_CASE("calendar: there and back over all of four centuries") {
  for (std::int64_t day = -10; day < 150000; day += 7) {
    const std::int64_t at = day * 86400 + 12345;
    CHECK(seconds_since_1970(civil_time(at)) == at);
  }
  const CivilTime leap = civil_time(1'709'164'800);
  CHECK(leap.month == 2);
  CHECK(leap.day == 29);
  CHECK(leap.weekday == 4);
}

TEST_CASE("rtc: shows start time plus virtual time, in BCD") {
  RtcBench bench;
  bench.check_time(0x23, 0x59, 0x30);
  CHECK(bench.in(7) == 0x28);
  CHECK(bench.in(8) == 0x02);
  CHECK(bench.in(9) == 0x24);
  CHECK(bench.in(0x32) == 0x20);
  CHECK(bench.in(6) == 4);
  bench.now = 31 * second;
  bench.check_time(0x00, 0x00, 0x01);
  CHECK(bench.in(7) == 0x29);
  CHECK(bench.in(0x0d) == 0x80);
}

TEST_CASE("rtc: binary and twelve-hour formats") {
  RtcBench bench;
  bench.out(0x0b, 0x06);
  bench.check_time(23, 59, 30);
  bench.out(0x0b, 0x00);
  CHECK(bench.in(4) == 0x91);  // 11 pm
}

TEST_CASE("rtc: update in progress just before the second changes") {
  RtcBench bench;
  CHECK((bench.in(0x0a) & 0x80) == 0);
  bench.now = second - 100'000;
  CHECK((bench.in(0x0a) & 0x80) != 0);
  bench.now = second;
  CHECK((bench.in(0x0a) & 0x80) == 0);
}

TEST_CASE("rtc: setting the clock") {
  RtcBench bench;
  bench.out(0x0b, 0x82);
  bench.out(0x32, 0x19);
  bench.out(9, 0x99);
  bench.out(8, 0x12);
  bench.out(7, 0x31);
  bench.out(4, 0x23);
  bench.out(2, 0x59);
  bench.out(0, 0x58);
  bench.now = 5 * second;  // time stands still while it is set
  CHECK(bench.in(0) == 0x58);
  bench.out(0x0b, 0x02);
  bench.now = 8 * second;
  bench.check_time(0x00, 0x00, 0x01);
  CHECK(bench.in(0x32) == 0x20);
  CHECK(bench.in(9) == 0x00);
}

TEST_CASE("rtc: periodic, update and alarm interrupts") {
  RtcBench bench;
  bench.out(0x0a, 0x26);
  bench.out(0x0b, 0x42);  // periodic, 1024 Hz
  bench.now = bench.rtc.deadline_ns();
  CHECK(bench.now == 976562);
  bench.rtc.advance(bench.now);
  CHECK(bench.lines.level[8]);
  CHECK(bench.rtc.deadline_ns() == no_deadline);
  CHECK((bench.in(0x0c) & 0xc0) == 0xc0);
  CHECK_FALSE(bench.lines.level[8]);
  bench.out(0x0b, 0x12);  // update ended
  CHECK(bench.rtc.deadline_ns() == second);
  bench.now = second;
  bench.rtc.advance(bench.now);
  CHECK((bench.in(0x0c) & 0x90) == 0x90);
  bench.out(1, 0x05);
  bench.out(3, 0x01);
  bench.out(5, 0xff);  // at 5 s past the first minute of any hour
  bench.out(0x0b, 0x22);
  CHECK(bench.rtc.deadline_ns() == 95 * second);
  bench.now = 95 * second;
  bench.rtc.advance(bench.now);
  CHECK(bench.lines.level[8]);
  CHECK((bench.in(0x0c) & 0xa0) == 0xa0);
}

TEST_CASE("rtc: an alarm at a time that does not exist never comes") {
  RtcBench bench;
  bench.out(1, 0x7f);
  bench.out(0x0b, 0x22);
  CHECK(bench.rtc.deadline_ns() == no_deadline);
}

TEST_CASE("rtc: state round trip") {
  RtcBench bench, other;
  bench.out(0x0b, 0x72);
  bench.out(0x40, 0x55);
  bench.now = 3 * second;
  bench.rtc.advance(bench.now);
  check_round_trip(bench.rtc, other.rtc);
}

}  // namespace
}  // namespace node_mesh
