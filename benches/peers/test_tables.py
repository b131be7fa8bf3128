"""Tests of floors and tables, which need nothing but Python: `python3 -m unittest test_tables`, here."""
import unittest

import floors
import tables

MODEL = {
    "name": "m",
    "group": "deepbench",
    "weight_bytes": 3000,
    "phases": [
        {"label": "input", "flops": 4e6, "bytes": 2000, "repeats": 1},
        {"label": "recurrent", "flops": 1e6, "bytes": 1000, "repeats": 50},
    ],
}


def measured(engine, round_, p50_us, error=0.0, threads=1):
    of = {"model": "m", "threads": threads, "round": round_, "engine": engine}
    return of | {"load_ms": 1.0, "p50_us": p50_us, "peak_mib": 10.0, "error": error}


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


class Floors(unittest.TestCase):
    def test_a_phase_takes_the_larger_of_arithmetic_and_bytes(self):
        # 4e6 / 1e9 = 4 ms against 2000 bytes at 1e6 a second = 2 ms; 1 ms against 50 * 1000 bytes at 5e6 = 10 ms.
        self.assertAlmostEqual(floors.floor(MODEL, 1e9, {1000: 5e6, 3000: 1e6}), 14e-3)

    def test_a_set_is_read_with_the_best_of_its_size_and_larger_ones(self):
        self.assertEqual(floors.bandwidth({1000: 2.0, 2000: 3.0, 4000: 1.0}, 1000), 3.0)
        self.assertEqual(floors.bandwidth({1000: 2.0, 2000: 3.0, 4000: 1.0}, 3000), 1.0)
        self.assertIsNone(floors.bandwidth({1000: 2.0}, 3000))

    def test_a_floor_without_its_limits_is_absent(self):
        self.assertIsNone(floors.floor(MODEL, 1e9, {1000: 5e6}))
        self.assertIsNone(floors.floor({"phases": []}, 1e9, {}))

    def test_sets_are_those_that_phases_read_again(self):
        self.assertEqual(floors.working_sets(MODEL), [1000, 3000])


class Tables(unittest.TestCase):
    def latency(self, measurements, engines=("recurve", "a", "b"), limits=None):
        return tables.latency([MODEL], measurements, list(engines), 1, limits)

    def test_medians_the_best_peer_and_the_floor(self):
        of = [measured("recurve", r, us) for r, us in enumerate([2000, 9000, 4000])]
        of += [measured("a", r, us) for r, us in enumerate([8000, 8000, 8000])]
        of += [measured("b", r, us) for r, us in enumerate([6000, 6000, 6000])]
        lines = self.latency(of, limits=(1e9, {1000: 1e8, 3000: 1e7}))
        # Median 4 ms of ours; the best peer is b with 6; not slower than it in two of three rounds; floor 4 + 1 ms.
        wanted = ["m", "4.000", "8.000", "6.000", "1.50", "2 of 3", "5.000", "1.25"]
        self.assertEqual(cells(lines[2]), wanted)
        self.assertIn("batch-1 recurrences (1): 1.50", lines[4])

    def test_models_that_recurve_gets_wrong_are_named(self):
        right, wrong = measured("recurve", 0, 1.0, error=1e-5), measured("recurve", 1, 1.0, error=1e-3)
        self.assertEqual(tables.disagreeing([right, measured("a", 0, 1.0, error=1.0)]), [])
        self.assertEqual(tables.disagreeing([right, wrong, wrong]), ["m"])
        self.assertEqual(tables.disagreeing([right | {"error": float("nan")}]), ["m"])
        self.assertEqual(tables.disagreeing([{"engine": "recurve-f16", "model": "n", "failed": "no"}]), ["n"])

    def test_wrong_and_failing_peers_are_never_the_best(self):
        of = [measured("recurve", 0, 2000), measured("a", 0, 1000, error=1e-3)]
        of.append({"model": "m", "threads": 1, "round": 0, "engine": "b", "failed": "no"})
        line = cells(self.latency(of)[2])
        self.assertEqual(line, ["m", "2.000", "1.000 wrong", "fails", "–", "–", "–", "–"])

    def test_outputs_that_are_no_numbers_are_wrong_in_any_format(self):
        self.assertTrue(tables.is_wrong(measured("recurve", 0, 1, error=float("nan"))))
        self.assertTrue(tables.is_wrong(measured("recurve-int8", 0, 1, error=float("nan"))))
        self.assertFalse(tables.is_wrong(measured("recurve-f16", 0, 1, error=1e-3)))
        self.assertTrue(tables.is_wrong(measured("recurve-f16", 0, 1, error=3e-3)))

    def test_every_format_has_its_ratio(self):
        of = [measured("recurve", 0, 2000), measured("recurve-f16", 0, 1000), measured("a", 0, 3000)]
        lines = self.latency(of, engines=("recurve", "recurve-f16", "a"))
        self.assertEqual(cells(lines[2])[4:6], ["1.50", "3.00"])

    def test_failures_are_told_in_the_engines_words(self):
        of = [{"model": "m", "threads": 1, "round": 0, "engine": "b", "failed": "unsupported: GRU"}]
        self.assertIn("- `m`, b: unsupported: GRU", tables.errors([MODEL], of, ["recurve", "b"]))

    def test_limits_are_the_best_of_all_rounds(self):
        records = [
            {"threads": 1, "flops": 1e9, "bandwidth": {"1000": 2e9}},
            {"threads": 1, "flops": 3e9, "bandwidth": {"1000": 1e9, "4000": 5e8}},
        ]
        self.assertEqual(tables.measured_limits(records), {1: (3e9, {1000: 2e9, 4000: 5e8})})


if __name__ == "__main__":
    unittest.main()
