"""The words of the tiny world: its names, and the sentence frames that state a fact.

A frame is a format string. ``{name}`` is the full name, and each relation is a slot for its value. A frame without
``{name}`` follows only a sentence about the same person: ``{first}`` is the first name, ``{They}``, ``{they}``,
``{Their}``, ``{their}`` are that person's pronouns, and ``{was}``, ``{is}``, ``{has}``, ``{s}`` agree with the pronoun
(she lives, they live). A frame with several relation slots states several facts.

Everything here was written for this project; the place and its people are invented.
"""

FIRST_NAMES = {
    "she": (
        "Mara Edda Runa Tilda Ines Vesna Greta Liv Orla Petra "
        "Dagny Salme Nadia Britta Flora Hedda Juno Karin Lotte Zelda"
    ).split(),
    "he": (
        "Anton Bruno Casper Emil Gustav Hugo Ivo Jasper Klaus Lars "
        "Magnus Nils Oskar Piet Ralf Soren Tomas Viktor Wilmar Yorick"
    ).split(),
    "they": "Robin Kim Sasha Jules Noa Quinn Remy Toni".split(),
}
LAST_NAMES = (
    "Alder Barlow Brandt Calder Corvin Dahl Drury Ekman Falk Ferris Garnet Gillow Hale Holt Hurst Isling "
    "Jarvis Keller Kroll Lind Lowe Marlow Mercer Moss Nye Norrby Osgood Pell Pryce Quist Raske Rowan "
    "Selby Skov Stroud Tamm Thorne Udall Vance Varga Voss Wade Wick Wren Yarrow Zeller Birk Crane"
).split()
OTHERS = {  # people with one fact each, which is not true for the person whom the passage is about
    "she": ("{their} aunt", "{their} elder sister", "{their} landlady", "{their} grandmother", "{their} godmother"),
    "he": ("{their} uncle", "{their} younger brother", "{their} neighbour", "{their} grandfather", "{their} landlord"),
}
TOWNS = (
    "Arnholm Belquay Corrin Dunmarsh Eastrell Fennick Gorsley Hollin Ivermoor Jostwick "
    "Kelby Lundry Mirefield Nordal Ospey Quarrow Ravenby Stavel Tolmer Wexmere"
).split()
YEARS = [str(year) for year in range(1901, 1941)]
PROFESSIONS = (
    "baker beekeeper carpenter cobbler dentist farmer gardener glazier hatter lawyer "
    "mason nurse painter potter roofer sailor surveyor tailor teacher weaver"
).split()
EMPLOYERS = [
    "Brightwater", "Castor Mills", "Dorrit Press", "Elmgate", "Foxglove Tea", "Greystone", "Harrow Lines",
    "Ironbridge Rail", "Junipera", "Kestrel Post", "Larkspur", "Mistral Sails", "Northlight", "Oakum Ropes",
    "Pomona", "Redwing Ferries", "Sable Inks", "Tidewater", "Umbra Tiles", "Windlass",
]  # fmt: skip
INSTRUMENTS = (
    "accordion banjo bassoon cello clarinet fiddle flute guitar harp lute mandolin piano trombone trumpet viola zither"
).split()

# Two relations of each type, in similar sentences: the type of a question does not reveal its answer.
TYPES = {
    "town": ("birthplace", "home"),
    "year": ("birth_year", "house_year"),
    "profession": ("profession", "former_profession"),
    "employer": ("employer", "former_employer"),
    "instrument": ("instrument", "former_instrument"),
}
VALUES = {"town": TOWNS, "year": YEARS, "profession": PROFESSIONS, "employer": EMPLOYERS, "instrument": INSTRUMENTS}
RELATIONS = tuple(relation for pair in TYPES.values() for relation in pair)
TYPE_OF = {relation: kind for kind, pair in TYPES.items() for relation in pair}

FRAMES = """
# birthplace
{name} was born in {birthplace}.
{name} comes from {birthplace}.
{birthplace} is the town where {name} was born.
The birthplace of {name} is {birthplace}.
It was in {birthplace} that {name} was born.
{name}, a native of {birthplace}, has cousins in every street.
{birthplace} likes to boast that {name} was born there.
{name} first saw the light of day in {birthplace}.
In {birthplace} they still remember the day {name} was born.
The parents of {name} lived in {birthplace} when their child was born.
{They} {was} born in {birthplace}.
{They} came into the world in {birthplace}.
{birthplace} is {their} birthplace.
{first} comes from {birthplace}.

# home
{name} lives in {home}.
{name} now lives in {home}.
{home} is where {name} lives today.
The home of {name} is in {home}.
These days {name} lives in {home}.
{name} has settled in {home}.
Letters for {name} are sent to {home}.
In {home}, where {name} lives, the streets are quiet.
{home} has been the home of {name} for years.
{name} moved to {home} and never left again.
Whoever wants to visit {name} must travel to {home}.
{They} live{s} in {home}.
{Their} home is in {home}.
{home} is where {they} live{s} today.
{first} has settled in {home}.

# birth_year
{name} was born in {birth_year}.
In {birth_year}, {name} was born.
{birth_year} was the year {name} was born.
The year of {name}'s birth was {birth_year}.
It was in {birth_year} that {name} was born.
{name}, born in {birth_year}, likes to sleep late.
The church book gives {birth_year} as the birth year of {name}.
{name} came into the world in {birth_year}.
On a cold night in {birth_year}, {name} was born.
{name} has kept a newspaper of {birth_year}, the year of {their} birth.
{They} {was} born in {birth_year}.
{Their} birth year is {birth_year}.
{first} came into the world in {birth_year}.
It was {birth_year} when {they} {was} born.

# house_year
{name}'s house was built in {house_year}.
The house of {name} dates from {house_year}.
Built in {house_year}, the house of {name} leans a little.
It was in {house_year} that the house of {name} was built.
{house_year} is carved above the door of {name}'s house.
In {house_year} the walls of {name}'s house went up.
The house that belongs to {name} was finished in {house_year}.
{name} has a house built in {house_year}.
{house_year} was the year the house of {name} was built.
The roof of {name}'s house was first laid in {house_year}.
{Their} house was built in {house_year}.
{They} {has} a house that dates from {house_year}.
{house_year} is the year {their} house was built.
{first} has a house built in {house_year}.

# profession
{name} is a {profession}.
{name} works as a {profession}.
By trade {name} is a {profession}.
{name} earns a living as a {profession}.
{name}, a {profession} these days, is seldom idle.
Nobody is a more careful {profession} than {name}.
{name} has become a {profession}.
The sign on {name}'s door now says {profession}.
A good {profession} is hard to find, but {name} is one.
The present trade of {name} is that of a {profession}.
If you need a {profession}, ask for {name}.
{They} {is} a {profession}.
{They} now work{s} as a {profession}.
{first} is a {profession} by trade.
{Their} present trade is that of a {profession}.

# former_profession
{name} used to be a {former_profession}.
{name} was once a {former_profession}.
Years ago {name} worked as a {former_profession}.
The first trade of {name} was that of a {former_profession}.
{name} started out as a {former_profession}.
As a young {former_profession}, {name} learned to rise early.
{name} trained as a {former_profession} but left the trade.
In earlier days {name} earned a living as a {former_profession}.
{name} is no longer a {former_profession}.
A {former_profession} is what {name} was at first.
There was a time when {name} was a {former_profession}.
{They} used to be a {former_profession}.
Years ago {they} worked as a {former_profession}.
{first} started out as a {former_profession}.
{Their} first trade was that of a {former_profession}.

# employer
{name} works for {employer}.
{employer} employs {name}.
{name} is employed by {employer}.
The wages of {name} are paid by {employer}.
{name} has a job at {employer}.
Every morning {name} sets off for work at {employer}.
At {employer}, {name} is one of the staff.
The employer of {name} is {employer}.
Among those who work for {employer} is {name}.
{employer} is the firm that {name} works for.
{name} has found work with {employer}.
{They} work{s} for {employer}.
{They} {is} employed by {employer}.
{first} has a job at {employer}.
{Their} wages are paid by {employer}.

# former_employer
{name} used to work for {former_employer}.
{name} once worked for {former_employer}.
{former_employer} used to employ {name}.
{name} left {former_employer} some time ago.
The former employer of {name} is {former_employer}.
Years ago {name} was on the staff of {former_employer}.
For a while {name} was employed by {former_employer}, but no longer.
{name} spent some years with {former_employer} and then left.
It was {former_employer} that gave {name} a first job.
At {former_employer}, where {name} once worked, the pay was poor.
{name} no longer works for {former_employer}.
{They} used to work for {former_employer}.
{They} left {former_employer} some time ago.
{first} once had a job at {former_employer}.
{former_employer} used to pay {their} wages.

# instrument
{name} plays the {instrument}.
The instrument {name} plays is the {instrument}.
On Sundays {name} plays the {instrument}.
You can often hear {name} on the {instrument}.
When {name} picks up the {instrument}, people listen.
The {instrument} is what {name} plays.
In the evening {name} practises the {instrument}.
Nobody here plays the {instrument} like {name}.
{name} is fond of playing the {instrument}.
The {instrument} sounds sweet when {name} plays it.
{name} has taken up the {instrument}.
{They} play{s} the {instrument}.
{They} practise{s} the {instrument} every evening.
{first} is fond of playing the {instrument}.
{Their} instrument is the {instrument}.

# former_instrument
{name} gave up the {former_instrument}.
{name} used to play the {former_instrument}.
As a child {name} played the {former_instrument}.
{name} once played the {former_instrument} but sold it.
The {former_instrument} is no longer played by {name}.
It is years since {name} touched the {former_instrument}.
{name} stopped playing the {former_instrument} long ago.
The {former_instrument} was the first instrument of {name}.
The {former_instrument} that {name} used to play hangs on the wall.
Long ago {name} put the {former_instrument} away for good.
{name} no longer plays the {former_instrument}.
{They} used to play the {former_instrument}.
{They} gave up the {former_instrument}.
{first} once played the {former_instrument}.
The {former_instrument} was {their} first instrument.

# two facts of one type
{name} was born in {birthplace} but lives in {home}.
{name} lives in {home}, far from {birthplace}, the town of {their} birth.
Though born in {birthplace}, {name} now lives in {home}.
{home} is the home of {name}, and {birthplace} the birthplace.
{name} left {birthplace}, where {they} {was} born, and moved to {home}.
{They} moved to {home} from {birthplace}, where {they} {was} born.
{name}, born in {birth_year}, has a house built in {house_year}.
The house of {name}, who was born in {birth_year}, dates from {house_year}.
A house from {house_year} belongs to {name}, who was born in {birth_year}.
Born in {birth_year}, {name} has a house that dates from {house_year}.
{They} {was} born in {birth_year}, and {their} house was built in {house_year}.
{name}, once a {former_profession}, is now a {profession}.
Before becoming a {profession}, {name} was a {former_profession}.
{name} is a {profession} and used to be a {former_profession}.
Now a {profession}, {name} started out as a {former_profession}.
{name} was a {former_profession} at first and then became a {profession}.
{They} used to be a {former_profession} and {is} now a {profession}.
{name} left {former_employer} and now works for {employer}.
{employer} employs {name}, who used to work for {former_employer}.
Before joining {employer}, {name} worked for {former_employer}.
{name} works for {employer}, no longer for {former_employer}.
After some years with {former_employer}, {name} found work at {employer}.
{They} left {former_employer} and now work{s} for {employer}.
{name} gave up the {former_instrument} and now plays the {instrument}.
{name} plays the {instrument} but used to play the {former_instrument}.
Before taking up the {instrument}, {name} played the {former_instrument}.
It is the {instrument} that {name} plays, no longer the {former_instrument}.
The {former_instrument} bored {name}, who now plays the {instrument}.
{They} play{s} the {instrument} and used to play the {former_instrument}.

# two facts of different types
{name} was born in {birthplace} in {birth_year}.
In {birth_year}, {name} was born in {birthplace}.
It was in {birthplace}, in {birth_year}, that {name} was born.
{They} {was} born in {birthplace} in {birth_year}.
{name} lives in {home} in a house built in {house_year}.
In {home}, {name} lives in a house that dates from {house_year}.
{name} works for {employer} as a {profession}.
{employer} employs {name} as a {profession}.
{name}, who is a {profession}, works for {employer}.
{They} work{s} as a {profession} for {employer}.
{name} lives in {home} and plays the {instrument}.
{name}, who plays the {instrument}, comes from {birthplace}.
{name}, a {profession} by trade, lives in {home}.
{name} lives in {home} and works for {employer}.
Born in {birthplace}, {name} started out as a {former_profession}.
{name} used to work for {former_employer} as a {former_profession}.
As a child in {birthplace}, {name} played the {former_instrument}.
{name}, born in {birth_year}, plays the {instrument}.
{name}, who once worked for {former_employer}, gave up the {former_instrument}.
""".strip()
