"""Instructions by callgrind, those of our own program only: what libraries and the kernel do depends on their versions, and how long a
process waits in them on the machine's mood. A forked process writes a file of its own."""
import json
import re
import subprocess

from measure import harness


def words(directory, name="%p"):
    """What runs a program under callgrind."""
    return ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={directory}/callgrind.{name}"]


def own_instructions(path, program):
    """The sum of the self costs of a file's functions that are in the program itself."""
    names, mine, skip, total = {}, False, False, 0
    with open(path) as text:
        for line in text:
            found = re.match(r"(c?ob)=\((\d+)\)(?: (.*))?", line)
            if found:
                if found[3]:
                    names[found[2]] = found[3]
                if found[1] == "ob":
                    mine = names[found[2]] == str(program)
            elif line.startswith("calls="):
                skip = True  # the next line is the cost of what was called, counted there
            elif line[0] in "0123456789+-*":
                if mine and not skip:
                    total += int(line.split()[1])
                skip = False
    return total


def all_instructions(path):
    """Of the whole process, libraries too."""
    with open(path) as text:
        return sum(int(line.split()[1]) for line in text if line.startswith("totals:"))


def client(load, broker, jobs):
    """Of `celeriac call -`."""
    done = subprocess.run([*words(broker.directory, "client"), harness.program(), "-b", broker.url, "call", "-"], text=True,
                          input=(json.dumps(load.line) + "\n") * jobs, capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"celeriac call: {done.stderr.strip()}")
    return own_instructions(f"{broker.directory}/callgrind.client", harness.program())


def roles(process):
    """{pid: role} of a worker under valgrind, which keeps the titles to itself; only a dispatcher has an event loop."""
    return {pid: "dispatcher" if harness.has_event_loop(pid) else "runner" for pid in harness.process_tree(process.pid)}


def by_role(broker, found):
    """{role: instructions} from the files of the processes that roles() named."""
    total = {}
    for pid, role in found.items():
        total[role] = total.get(role, 0) + own_instructions(f"{broker.directory}/callgrind.{pid}", harness.program())
    return total
