#include "devices/pci_host/pci_host.h"

#include "devices/test/bench.h"

namespace node_mesh {
namespace {

TEST_CASE("pci_host: the address can be read back as a doubleword only") {
  PciHost host;
  host.write(0xcf8, 4, 0x8000'0800, 0);
  CHECK(host.read(0xcf8, 4, 0) == 0x8000'0800);
  CHECK(host.read(0xcf8, 1, 0) == 0xff);
}

TEST_CASE("pci_host: the bridge is at 00:00.0, in any access size") {
  PciHost host;
  host.write(0xcf8, 4, 0x8000'0000, 0);
  CHECK(host.read(0xcfc, 4, 0) == 0x0008'1b36);
  CHECK(host.read(0xcfe, 2, 0) == 0x0008);
  CHECK(host.read(0xcfd, 1, 0) == 0x1b);
  host.write(0xcf8, 4, 0x8000'0008, 0);
  CHECK(host.read(0xcfe, 2, 0) == 0x0600);
  host.write(0xcf8, 4, 0x8000'0010, 0);
  CHECK(host.read(0xcfc, 4, 0) == 0);
}

TEST_CASE("pci_host: nothing else is there, and nothing without the enable bit") {
  PciHost host;
  for (const std::uint32_t address : {0x8000'0800u, 0x8000'0100u, 0x8001'0000u, 0x0000'0000u}) {
    host.write(0xcf8, 4, address, 0);
    CHECK(host.read(0xcfc, 4, 0) == 0xffff'ffff);
    CHECK(host.read(0xcfe, 2, 0) == 0xffff);
  }
}

}  // namespace
}  // namespace node_mesh
