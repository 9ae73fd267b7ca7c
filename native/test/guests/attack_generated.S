// Each attack written at run time into a page that is writable and executable, over the one before,
// and run there: alone, and behind a loop that ran with harmless instructions in its place.
