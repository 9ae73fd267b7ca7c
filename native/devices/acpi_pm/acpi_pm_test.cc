#include "devices/acpi_pm/acpi_pm.h"

#include "devices/reset/reset.h"
#include "devices/test/bench.h"

namespace node_mesh {
namespace {

TEST_CASE("acpi_pm: soft-off by the sleep type of S5 only") {
  RecordedLines lines;
  RecordedPower power;
  AcpiPm pm(lines, power);
  CHECK(pm.read(0x604, 2, 0) == 0x0001);
  pm.write(0x604, 2, 0x3 << 10 | 1 << 13, 0);
  CHECK(power.offs == 0);
  pm.write(0x604, 2, 0x5 << 10, 0);
  CHECK(power.offs == 0);
  pm.write(0x604, 2, 0x5 << 10 | 1 << 13, 0);
  CHECK(power.offs == 1);
  CHECK(pm.read(0x604, 2, 0) == (0x5 << 10 | 1));
}

TEST_CASE("acpi_pm: the power button interrupts until it is cleared") {
  RecordedLines lines;
  RecordedPower power;
  AcpiPm pm(lines, power);
  pm.write(0x602, 2, 0x0100, 0);
  pm.press_power_button();
  CHECK(lines.level[9]);
  CHECK(pm.read(0x600, 4, 0) == 0x0100'0100);
  pm.write(0x600, 2, 0x0100, 0);
  CHECK_FALSE(lines.level[9]);
  AcpiPm other(lines, power);
  check_round_trip(pm, other);
}

TEST_CASE("reset: keyboard controller pulse and reset register") {
  RecordedPower power;
  Reset reset(power);
  CHECK(reset.read(0x64, 1, 0) == 0xff);
  reset.write(0x64, 1, 0xaa, 0);
  CHECK(power.resets == 0);
  reset.write(0x64, 1, 0xfe, 0);
  CHECK(power.resets == 1);
  reset.write(0xcf9, 1, 0x02, 0);
  CHECK(power.resets == 1);
  reset.write(0xcf9, 1, 0x06, 0);
  CHECK(power.resets == 2);
}

}  // namespace
}  // namespace node_mesh
