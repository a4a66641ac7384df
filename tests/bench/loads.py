"""What engines are given to do, and in which order."""

SOURCE, NEW = 160, 48


def in_turns(engines, rounds, job):
    """Results of each engine over the rounds; one round before is not counted."""
    found = {engine.name: [] for engine in engines}
    for number in range(rounds + 1):
        for engine in engines:
            result = job(engine)
            if number:
                found[engine.name].append(result)
    return found


def drawn_prompts(count, vocab, source=SOURCE):
    return [[4 + (i * 7919 + j * 104_729) % (vocab - 4) for j in range(source)] for i in range(count)]
